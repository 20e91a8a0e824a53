"""The outcome of each video, and the scores of a test with their uncertainty: pure functions of arrays.

Legend: N videos, K classes, B resamples. Scores and calibration errors are in percent, probabilities in 0..1.
Unreadable videos count as wrong, and are excluded from calibration.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from utils.metrics import is_in_top, softmax

NUM_BINS = 15
"""Equal-width bins of the calibration error, as in Guo et al. 2017 (arXiv 1706.04599)."""
NUM_RESAMPLES = 2000
CONFIDENCE_LEVEL = 0.95
_RESAMPLES_PER_BATCH = 100  # bounds the memory: 100 x N weights
FIGURES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean class", "ece": "ECE"}
"""Keys of `figures`, and how the page names them."""


class Outcomes(NamedTuple):
    """One row per video, in the order of the table."""

    labels: np.ndarray  # int64 (N,)
    predicted: np.ndarray  # int64 (N,); -1: unreadable
    confidence: np.ndarray  # float32 (N,), probability of the predicted class; NaN: unreadable
    label_probability: np.ndarray  # float32 (N,), probability of the true class; NaN: unreadable
    is_top1: np.ndarray  # bool (N,)
    is_top5: np.ndarray  # bool (N,)

    @property
    def is_readable(self) -> np.ndarray:
        """bool (N,)."""
        return self.predicted >= 0

    def take(self, rows: np.ndarray) -> "Outcomes":
        """The outcomes of some rows, in that order."""
        return Outcomes(*(column[rows] for column in self))


def outcomes_of(logits: np.ndarray, labels: np.ndarray) -> Outcomes:
    """The outcome of each video.

    Args:
        logits: (N,K), at the evaluation temperature; a row of NaN is an unreadable video.
        labels: int (N,).
    """
    is_readable = ~np.isnan(logits).any(axis=1)
    predicted = np.full(len(labels), -1)
    confidence, label_probability = (np.full(len(labels), np.nan, dtype=np.float32) for _ in range(2))
    probabilities = softmax(logits[is_readable])
    predicted[is_readable] = logits[is_readable].argmax(axis=1)  # ties: the lower class, as in `is_in_top`
    confidence[is_readable] = probabilities.max(axis=1)
    label_probability[is_readable] = probabilities[np.arange(len(probabilities)), labels[is_readable]]
    top1, top5 = (is_in_top(logits, labels, k) for k in (1, 5))
    return Outcomes(labels, predicted, confidence, label_probability, top1, top5)


def calibration_bins(confidence: np.ndarray) -> np.ndarray:
    """int (n,), 0..14: the bin of each probability; bin b is (b/15, (b+1)/15]."""
    return np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)


class ReliabilityBin(NamedTuple):
    """Number of videos in a bin, their mean confidence and accuracy; NaN if it is empty."""

    count: int
    confidence: float
    accuracy: float


def reliability(outcomes: Outcomes) -> list[ReliabilityBin]:
    """The 15 bins of a reliability diagram, over the readable videos."""
    readable = outcomes.take(np.flatnonzero(outcomes.is_readable))
    bin_of = calibration_bins(readable.confidence)
    count = np.bincount(bin_of, minlength=NUM_BINS)
    with np.errstate(invalid="ignore"):  # 0 / 0 in empty bins
        confidence = np.bincount(bin_of, readable.confidence, NUM_BINS) / count
        accuracy = np.bincount(bin_of, readable.is_top1, NUM_BINS) / count
    return [ReliabilityBin(int(n), float(c), float(a)) for n, c, a in zip(count, confidence, accuracy)]


def figures(outcomes: Outcomes, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The scores of a test, (B,) for each name in `FIGURES`, for B weightings of its videos. `weights`: float32 (B,N),
    how often each video counts; None: once each, B = 1."""
    if weights is None:
        weights = np.ones((1, len(outcomes.labels)), dtype=np.float32)
    total = weights.sum(axis=1)
    order = np.argsort(outcomes.labels, kind="stable")
    starts = np.flatnonzero(np.diff(outcomes.labels[order], prepend=-1))
    by_class = weights[:, order]
    seen = np.add.reduceat(by_class, starts, axis=1)
    right = np.add.reduceat(by_class * outcomes.is_top1[order], starts, axis=1)
    class_shares = np.divide(right, seen, out=np.full_like(seen, np.nan), where=seen > 0)
    readable = outcomes.is_readable
    # ECE = sum over bins of n_b/n * |accuracy_b - confidence_b| = sum over bins of |sum of (right - confidence)| / n.
    surplus = (outcomes.is_top1 - outcomes.confidence)[readable].astype(np.float32)
    in_bin = np.eye(NUM_BINS, dtype=np.float32)[calibration_bins(outcomes.confidence[readable])]
    gaps = np.abs(weights[:, readable] @ (in_bin * surplus[:, None])).sum(axis=1)
    return {
        "top1": 100 * (weights @ outcomes.is_top1.astype(np.float32)) / total,
        "top5": 100 * (weights @ outcomes.is_top5.astype(np.float32)) / total,
        "mean_class": 100 * np.nanmean(class_shares, axis=1),
        "ece": 100 * gaps / np.maximum(weights[:, readable].sum(axis=1), 1),
    }


def bootstrap(*tests: Outcomes, num_resamples: int = NUM_RESAMPLES) -> list[dict[str, np.ndarray]]:
    """`figures` of each test over resamples of its videos, drawn with replacement: (num_resamples,) by name.

    Tests of the same videos in the same order have the same resamples, so that their differences are paired.
    """
    scores = [[figures(test, weights) for test in tests] for weights in resamples(len(tests[0].labels), num_resamples)]
    return [{name: np.concatenate([part[name] for part in parts]) for name in FIGURES} for parts in zip(*scores)]


def resamples(num_videos: int, num_resamples: int) -> Iterator[np.ndarray]:
    """How often each video was drawn: float32 (up to 100, N) at a time. The draws are the same for each call."""
    rng = np.random.default_rng(0)
    for start in range(0, num_resamples, _RESAMPLES_PER_BATCH):
        size = min(_RESAMPLES_PER_BATCH, num_resamples - start)
        drawn = rng.integers(num_videos, size=(size, num_videos)) + np.arange(size)[:, None] * num_videos
        counts = np.bincount(drawn.ravel(), minlength=size * num_videos)
        yield counts.reshape(size, num_videos).astype(np.float32)


def interval(samples: np.ndarray) -> tuple[float, float]:
    """95% interval of (B,) samples by the percentile bootstrap (Efron and Tibshirani 1993, chapter 13)."""
    tail = 100 * (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.percentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def wilson_interval(num_right: int, num_videos: int) -> tuple[float, float]:
    """95% interval of a share, in percent (Wilson 1927), which is also valid for few videos."""
    low, high = binomtest(num_right, num_videos).proportion_ci(CONFIDENCE_LEVEL, "wilson")
    return 100 * low, 100 * high


def figure_interval(key: str, outcomes: Outcomes, samples: dict[str, np.ndarray]) -> tuple[float, float]:
    """95% interval of a score: from `interval`, or Wilson's if all or no videos are right.

    In this case all resamples have the same score.

    Args:
        key: name in `FIGURES`. samples: from `bootstrap`.
    """
    right = {"top1": outcomes.is_top1, "top5": outcomes.is_top5, "mean_class": outcomes.is_top1}.get(key)
    if right is None or right.any() != right.all():
        return interval(samples[key])
    return wilson_interval(int(right.sum()), len(right))


class McNemar(NamedTuple):
    """Number of videos that both tests got right, only the first, only the second, and neither; exact two-sided
    p-value."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's exact test of two tests of the same videos.

    Under the null hypothesis, each video that only one of them got right is a toss of a fair coin (McNemar 1947;
    binomial form, Edwards 1948). Without such videos the p-value is 1.

    Args:
        first, second: bool (N,), whether each video is right.
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return McNemar(int((first & second).sum()), only_first, only_second, int((~first & ~second).sum()), p_value)


def confident_mistakes(outcomes: Outcomes, limit: int) -> np.ndarray:
    """int (n,): the rows of wrong, readable videos with the largest probability of a wrong class first, n <= limit."""
    wrong = np.flatnonzero(outcomes.is_readable & ~outcomes.is_top1)
    return wrong[np.argsort(-outcomes.confidence[wrong], kind="stable")][:limit]


def confident_hits(outcomes: Outcomes, limit: int) -> np.ndarray:
    """int (n,): the most confident right video of each class, the most confident classes first, n <= limit."""
    right = np.flatnonzero(outcomes.is_top1)
    right = right[np.argsort(-outcomes.confidence[right], kind="stable")]
    _, first = np.unique(outcomes.labels[right], return_index=True)
    return right[np.sort(first)][:limit]
