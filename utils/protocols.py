"""Evaluation protocols: pure functions of logits, labels and names.

Legend: N videos, K classes.
"""

import re
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.metrics import half_class_scores, mean_average_precision, score, score_labels, softmax
from utils.schema import Config


def zero_shot_summary(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Full-class and half-class scores of one list, in percent; mean average precision for a multi-label list.
    `logits`: (N,K). `labels`: int (N,), or multi-label (N,K) of 0 and 1."""
    if labels.ndim == 2:
        return {"num_classes": logits.shape[1], **score_labels(logits, labels)._asdict()}
    full, half = score(logits, labels), half_class_scores(logits, labels)
    summary: dict[str, Any] = {"num_videos": full.num_videos, "num_classes": logits.shape[1]}
    for name in ("top1", "top5"):
        of_splits = [getattr(scores, name) for scores in half]
        mean, deviation = mean_and_deviation(of_splits)
        summary |= {f"full_{name}": getattr(full, name), f"half_{name}": of_splits}
        summary |= {f"half_{name}_mean": mean, f"half_{name}_std": deviation}
    return summary


def base_classes(labels: np.ndarray, num_classes: int) -> list[int]:
    """The base classes of base-to-novel, ascending: the (K + 1) // 2 classes with the most videos.

    Ties are broken by class id, lowest first.

    Args:
        labels: int (N,), labels of the training videos.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return sorted(np.argsort(-counts, kind="stable")[: (num_classes + 1) // 2].tolist())


def harmonic_mean(base: float, novel: float) -> float:
    """2 b n / (b + n); 0 if both are 0."""
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def check_single_label(cfg: Config, what: str) -> None:
    """Raise a UserError if the lists of `cfg` are multi-label, which `what` does not support."""
    if cfg.data.multi_label:
        raise UserError(
            f"data.multi_label: {what} does not support it; use lists with one label per video, and set it to false"
        )


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Mean and population standard deviation."""
    return float(np.mean(values)), float(np.std(values))


def map_summary(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean average precision in percent, by the plain ranking and by the published one.

    The plain ranking is by probability; the published one is by the softmax of the probabilities.
    """
    probabilities = softmax(logits)
    rankings = {"map": probabilities, "map_published_ranking": softmax(probabilities)}
    return {name: mean_average_precision(ranking, labels) for name, ranking in rankings.items()}


def shared_classes(names: list[str], trained: list[str]) -> list[str]:
    """The names that are also training classes, ignoring case, spaces and punctuation."""
    known = {_bare(name) for name in trained}
    return [name for name in names if _bare(name) in known]


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
