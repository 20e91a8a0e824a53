"""Scores: pure functions of arrays.

Legend: N videos, D embedding, K classes. Scores are in percent.
"""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score

# Logit scale of the published evaluation for all models: exp(logit_scale) of OpenAI's CLIP, its maximum in training.
EVAL_LOGIT_SCALE = 100.0


def normalize(rows: np.ndarray) -> np.ndarray:
    """Divide rows by their L2 norm; float32."""
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def class_logits(videos: np.ndarray, text: np.ndarray) -> np.ndarray:
    """100 x cosine of each video (N,D) with each class text (K,D): float32 (N,K)."""
    return EVAL_LOGIT_SCALE * normalize(videos) @ normalize(text).T


def knn_votes(
    known: np.ndarray,
    known_labels: np.ndarray,
    videos: np.ndarray,
    num_classes: int,
    num_neighbours: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """float32 (N,K): weighted nearest-neighbour votes for each class, with weights exp(cosine / temperature).

    As in instance discrimination (Wu et al. 2018, arXiv 1805.01978, section 3.4) and DINO.

    Args:
        known: float32 (M,D). known_labels: int (M,), 0..K-1. videos: float32 (N,D).
    """
    likeness = normalize(videos) @ normalize(known).T
    votes = np.zeros((len(videos), num_classes), dtype=np.float32)
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :num_neighbours]
    weights = np.exp(np.take_along_axis(likeness, nearest, axis=1) / temperature)
    np.add.at(votes, (np.arange(len(videos))[:, None], known_labels[nearest]), weights)
    return votes


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def is_in_top(logits: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether each label is among the top k classes: bool (N,). Ties are broken by class number, lowest first.

    Rows of NaN (unreadable videos) are False.
    """
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return (best == labels[:, None]).any(axis=1) & ~np.isnan(logits).any(axis=1)


class Scores(NamedTuple):
    top1: float
    top5: float
    mean_class: float
    num_videos: int

    def describe(self) -> str:
        """One line for the log."""
        scores = f"top-1 {self.top1:.2f}%  top-5 {self.top5:.2f}%  mean class {self.mean_class:.2f}%"
        return f"{scores}  ({self.num_videos} videos)"


class MultiLabelScores(NamedTuple):
    """Scores of a multi-label list: mean average precision over the classes that occur, and their number."""

    map: float
    num_scored_classes: int
    num_videos: int

    def describe(self) -> str:
        """One line for the log."""
        return f"mAP {self.map:.2f}%  ({self.num_videos} videos, {self.num_scored_classes} classes that occur)"


def score_labels(logits: np.ndarray, labels: np.ndarray) -> Scores | MultiLabelScores:
    """Scores of a single- or multi-label list. Args: logits (N,K); labels int (N,), or multi-label (N,K) of 0 and 1."""
    if labels.ndim == 1:
        return score(logits, labels)
    precisions = average_precisions(logits, labels)
    return MultiLabelScores(100 * float(np.nanmean(precisions)), int(np.isfinite(precisions).sum()), len(labels))


def score(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Top-1, top-5, and the mean of the top-1 of each class that occurs. `logits`: (N,K). `labels`: int (N,),
    0..K-1."""
    is_correct = is_in_top(logits, labels, 1)
    per_class = [is_correct[labels == c].mean() for c in np.unique(labels)]
    return Scores(
        top1=100 * float(is_correct.mean()),
        top5=100 * float(is_in_top(logits, labels, 5).mean()),
        mean_class=100 * float(np.mean(per_class)),
        num_videos=len(labels),
    )


def half_class_scores(logits: np.ndarray, labels: np.ndarray) -> list[Scores]:
    """The published zero-shot protocol: each of ten splits has a random half of the classes and
    only their videos.

    Split s is `permutation(K)[:K//2]` of NumPy's legacy generator with seed s; the candidates are the classes of the
    split that occur among the labels.
    """
    scores = []
    for split in range(10):
        drawn = np.random.RandomState(split).permutation(logits.shape[1])[: logits.shape[1] // 2]
        chosen = np.isin(labels, drawn)
        if not chosen.any():
            continue
        candidates = np.unique(labels[chosen])
        scores.append(score(logits[chosen][:, candidates], np.searchsorted(candidates, labels[chosen])))
    return scores


def mean_average_precision(rankings: np.ndarray, labels: np.ndarray) -> float:
    """Mean average precision over the classes that occur; videos are ranked by the column of the class in (N,K)."""
    return 100 * float(np.nanmean(average_precisions(rankings, labels[:, None] == np.arange(rankings.shape[1]))))


def average_precisions(rankings: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64 (K,), 0..1: scikit-learn's average precision of each class.

    As in the evaluation of Charades (Charades_v1_classify.m), it is not interpolated, and videos without a class are
    ignored (there they are ranked last, which has the same effect). Classes without a video are NaN and left out of the
    mean, as in PySlowFast; scikit-learn returns 0 for them. Videos with equal scores share one step of the ranking;
    in the evaluation of Charades their order is arbitrary.

    Args:
        rankings: (N,K), finite. labels: (N,K), nonzero for the classes of a video.
    """
    has_class = labels.any(axis=1)
    known, scores = labels[has_class] != 0, rankings[has_class]
    found = [average_precision_score(k, s) if k.any() else np.nan for k, s in zip(known.T, scores.T)]
    return np.array(found, dtype=np.float64)
