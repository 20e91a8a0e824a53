"""The report's scores, compared with hand-made cases, scipy, and utils.metrics."""

import numpy as np
import pytest
from scipy import stats

from reporting import outcomes as o
from reporting.sections.multi_label import map_samples
from tests.reporting.report_runs import make_table
from utils.metrics import average_precisions, class_logits, score, softmax

NAN = float("nan")


def outcomes_of_run(seed=0, spread=3.0, num_unreadable=3, num_videos=120, num_classes=8):
    table, text = make_table(num_videos, num_classes, seed, spread, num_unreadable)
    logits = class_logits(table.embeddings, text)
    return o.outcomes_of(logits, table.labels), logits


def handmade(confidence, is_right):
    """Outcomes with given confidences and verdicts; NaN: unreadable."""
    confidence, is_right = np.array(confidence, dtype=np.float32), np.array(is_right, dtype=bool)
    labels = np.arange(len(confidence)) % 2
    predicted = np.where(np.isnan(confidence), -1, np.where(is_right, labels, 1 - labels))
    return o.Outcomes(labels, predicted, confidence, confidence, is_right, is_right)


def test_outcomes_classify_each_video():
    logits = np.array([[2.0, 1, 0], [0, 0, 5], [NAN, NAN, NAN], [1, 1, 0]], dtype=np.float32)
    found = o.outcomes_of(logits, np.array([0, 1, 2, 1]))
    assert found.predicted.tolist() == [0, 2, -1, 0]  # ties: the lower class
    assert found.is_top1.tolist() == [True, False, False, False]
    assert found.is_top5.tolist() == [True, True, False, True]  # an unreadable video has no rank
    assert found.confidence[0] == pytest.approx(softmax(logits[:1])[0, 0])
    assert found.label_probability[1] == pytest.approx(softmax(logits[1:2])[0, 1])
    assert np.isnan([found.confidence[2], found.label_probability[2]]).all()


def test_the_scores_equal_those_of_the_test():
    found, logits = outcomes_of_run()
    scores, figures = score(logits, found.labels), o.figures(found)
    for key in ("top1", "top5", "mean_class"):
        assert figures[key] == pytest.approx([getattr(scores, key)], abs=1e-4)
    assert 20 < scores.top1 < 95  # otherwise the comparison would be trivial


def test_a_video_of_weight_2_counts_twice():
    found, _ = outcomes_of_run()
    weights = np.random.default_rng(5).integers(0, 4, size=(1, len(found.labels)))
    repeated = o.figures(found.take(np.repeat(np.arange(len(found.labels)), weights[0])))
    weighted = o.figures(found, weights.astype(np.float32))
    assert {k: v[0] for k, v in weighted.items()} == pytest.approx({k: v[0] for k, v in repeated.items()}, abs=1e-3)


def test_scores_of_0_and_100_percent_have_intervals():
    for is_right, expected in (([True] * 80, (95.4, 100)), ([False] * 80, (0, 4.6))):
        found = handmade([0.9] * 80, is_right)
        (samples,) = o.bootstrap(found, num_resamples=10)
        assert o.interval(samples["top1"])[0] == o.interval(samples["top1"])[1]
        for key in ("top1", "top5", "mean_class"):
            assert o.figure_interval(key, found, samples) == pytest.approx(expected, abs=0.05)
        assert o.figure_interval("ece", found, samples) == o.interval(samples["ece"])
    some = handmade([0.9] * 4, [True, False, True, True])
    (samples,) = o.bootstrap(some, num_resamples=50)
    assert o.figure_interval("top1", some, samples) == o.interval(samples["top1"])


def test_calibration_error_by_hand():
    # Bin (0.6, 0.667]: 0.65 twice, one right; bin (0.933, 1]: 1.0, right; the unreadable video is excluded.
    found = handmade([0.65, 0.65, 1.0, NAN], [True, False, True, False])
    assert o.figures(found)["ece"][0] == pytest.approx(100 * (2 / 3 * abs(0.5 - 0.65) + 1 / 3 * 0), abs=1e-4)
    bins = o.reliability(found)
    assert len(bins) == 15 and [b.count for b in bins] == [0] * 9 + [2] + [0] * 4 + [1]
    assert bins[9].accuracy == 0.5 and bins[9].confidence == pytest.approx(0.65) and np.isnan(bins[0].accuracy)
    assert o.calibration_bins(np.array([0, 1 / 15, 0.0667, 1])).tolist() == [0, 0, 1, 14]


def test_the_bootstrap_equals_scipys():
    found, _ = outcomes_of_run()
    (samples,) = o.bootstrap(found)
    hits = found.is_top1.astype(float)
    scipys = stats.bootstrap((hits,), np.mean, n_resamples=2000, method="percentile").confidence_interval
    assert o.interval(samples["top1"]) == pytest.approx((100 * scipys.low, 100 * scipys.high), abs=1.7)
    assert all(len(v) == 2000 and np.isfinite(v).all() for v in samples.values())
    assert 100 * hits.std() / len(hits) ** 0.5 == pytest.approx(samples["top1"].std(), rel=0.1)


def test_the_bootstrap_is_seeded_and_paired():
    first, second = outcomes_of_run(seed=0)[0], outcomes_of_run(seed=1)[0]
    one, two = o.bootstrap(first, second, num_resamples=150)
    assert np.array_equal(one["ece"], o.bootstrap(first, num_resamples=150)[0]["ece"])
    same = o.bootstrap(first, first, num_resamples=150)
    assert np.array_equal(same[0]["top1"], same[1]["top1"])  # the same resamples
    assert not np.array_equal(one["top1"], two["top1"])


def test_mcnemar_is_the_exact_binomial():
    first = np.array([True] * 5 + [False] * 15 + [True] * 7 + [False] * 2)
    second = np.array([False] * 5 + [True] * 15 + [True] * 7 + [False] * 2)
    found = o.mcnemar(first, second)
    assert found[:4] == (7, 5, 15, 2)
    assert found.p_value == pytest.approx(0.04138947)  # 2 * sum over k <= 5 of C(20, k) / 2^20
    assert o.mcnemar(second, first).p_value == found.p_value
    assert o.mcnemar(first, first).p_value == 1


def test_wilsons_interval():
    expected = {(8, 8): (67.56, 100), (0, 8): (0, 32.44), (5, 10): (23.66, 76.34)}
    for (num_right, num_videos), interval in expected.items():
        assert o.wilson_interval(num_right, num_videos) == pytest.approx(interval, abs=1e-2)


def test_the_most_confident_mistakes_come_first_and_unreadable_videos_never():
    found = handmade([0.6, 0.9, 0.99, NAN, 0.7], [False, False, True, False, False])
    assert o.confident_mistakes(found, 2).tolist() == [1, 4]
    assert o.confident_mistakes(found, 9).tolist() == [1, 4, 0]


def test_confident_hits_are_of_different_classes():
    found = handmade([0.6, 0.9, 0.99, 0.7, 0.8], [True] * 5)  # classes 0, 1, 0, 1, 0
    assert o.confident_hits(found, 6).tolist() == [2, 1]
    assert o.confident_hits(found, 1).tolist() == [2]


def test_resamples_of_a_multi_label_test_have_the_mean_of_all_videos():
    rng = np.random.default_rng(0)
    labels = (rng.random((120, 5)) < 0.3).astype(np.int64)
    logits = labels + rng.standard_normal(labels.shape)
    samples, expected = map_samples(logits, labels, 200), 100 * np.nanmean(average_precisions(logits, labels))
    assert samples.shape == (200,) and abs(samples.mean() - expected) < 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reporting.sections.multi_label.resamples", lambda n, *_: [np.ones((1, n), dtype=np.float32)])
        np.testing.assert_allclose(map_samples(logits, labels), expected, rtol=1e-5)
