"""Scores compared with hand-computed values; tests/test_golden.py has the published ones."""

import numpy as np
import pytest

from utils.metrics import (
    average_precisions,
    class_logits,
    half_class_scores,
    is_in_top,
    mean_average_precision,
    score,
    score_labels,
    softmax,
)
from utils.protocols import zero_shot_summary


def test_scores_by_hand():
    logits = np.array([[3.0, 2, 1], [1, 3, 2], [2, 3, 1], [1, 2, 3]])
    labels = np.array([0, 0, 0, 2])
    result = score(logits, labels)
    assert result.top1 == 50 and result.top5 == 100 and result.num_videos == 4
    assert result.mean_class == pytest.approx(100 * (1 / 3 + 1) / 2)
    assert is_in_top(logits, labels, 2).tolist() == [True, False, True, True]


def test_equal_logits_rank_by_class_number():
    assert is_in_top(np.zeros((2, 4)), np.array([0, 3]), 1).tolist() == [True, False]


def test_logits_are_scaled_cosines():
    videos, text = np.array([[3.0, 0], [1, 1]]), np.array([[5.0, 0], [0, 0.1]])
    np.testing.assert_allclose(class_logits(videos, text), [[100, 0], [70.710678, 70.710678]], rtol=1e-6)
    np.testing.assert_allclose(softmax(class_logits(videos, text)).sum(axis=1), 1)


def test_half_classes_uses_only_drawn_classes_that_occur():
    # Ten classes, two of which occur: if only one of them is drawn, it is the only candidate and always right.
    logits = np.zeros((20, 10))
    logits[:, 9] = 1
    labels = np.repeat([1, 9], 10)
    found = [scores.top1 for scores in half_class_scores(logits, labels)]
    drawn = [set(np.random.RandomState(s).permutation(10)[:5]) & {1, 9} for s in range(10)]
    expected = [50.0 if len(d) == 2 else 100.0 for d in drawn if d]
    assert found == expected and {50.0, 100.0} == set(expected)
    summary = zero_shot_summary(logits, labels)
    assert (summary["half_top1_mean"], summary["half_top1_std"]) == (np.mean(expected), np.std(expected))


def test_average_precision_by_hand():
    ranking = np.array([[0.9, 0.1], [0.8, 0.7], [0.7, 0.8]])
    # class 0 (videos 0 and 2): precision 1 at rank 1, 2/3 at rank 3; class 1 (video 1): 1/2 at rank 2.
    assert mean_average_precision(ranking, np.array([0, 1, 0])) == pytest.approx(100 * ((1 + 2 / 3) / 2 + 0.5) / 2)


def charades_average_precisions(rankings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Charades' evaluation, implemented from its description: videos without a class last, precision at each hit."""
    rankings = np.where(labels.any(axis=1, keepdims=True), rankings, -np.inf)
    found = []
    for scores, is_hit in zip(rankings.T, labels.T):
        hits = is_hit[np.argsort(-scores)]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        found.append(precision[hits == 1].mean() if hits.any() else np.nan)
    return np.array(found)


def test_several_labels_are_scored_as_in_charades():
    rng = np.random.default_rng(0)
    rankings, labels = rng.standard_normal((200, 12)), (rng.random((200, 12)) < 0.1).astype(np.int64)
    labels[:, 5] = 0
    rankings[:20], labels[:20] = 9.0, 0  # they would rank first if they had a class
    expected = charades_average_precisions(rankings, labels)
    np.testing.assert_allclose(average_precisions(rankings, labels), expected, rtol=1e-12)
    assert np.flatnonzero(np.isnan(expected)).tolist() == [5]
    scores = score_labels(rankings, labels)
    assert scores.map == pytest.approx(100 * np.nanmean(expected))
    assert (scores.num_scored_classes, scores.num_videos) == (11, 200)
    assert score_labels(rankings, labels[:, 0]) == score(rankings, labels[:, 0])
