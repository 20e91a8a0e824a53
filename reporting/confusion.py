"""Which classes are taken for which: pure functions of counts.

Legend: K classes; a confusion matrix C is int (K,K), C[i, j] videos of class i that were called j.
"""

from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

GROUP_SHARE = 0.05
"""Classes form a group where, on average over its pairs, so large a share of one's videos is called by the other."""


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 (K,K). Unreadable videos (`predicted` -1) are not in it."""
    readable = predicted >= 0
    flat = labels[readable] * num_classes + predicted[readable]
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


class ClassOrder(NamedTuple):
    """`groups` of classes that are taken for each other, those that lose most videos first; `order`: all K classes,
    the groups first, then the rest with the least accurate first."""

    groups: list[list[int]]
    order: np.ndarray


def group_classes(confusion: np.ndarray) -> ClassOrder:
    """Average-linkage clustering of the symmetrised confusion (scipy), cut at `GROUP_SHARE`.

    The likeness of two classes is the mean of two shares: of i's videos called j and of j's called i.
    """
    num_classes = len(confusion)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    by_accuracy = np.argsort(shares.diagonal(), kind="stable")
    if num_classes < 2:
        return ClassOrder([], by_accuracy)
    distance = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    cluster_of = fcluster(tree, 1 - GROUP_SHARE, "distance")
    leaves = leaves_list(tree)
    groups = [[int(c) for c in leaves if cluster_of[c] == cluster] for cluster in np.unique(cluster_of)]
    groups = sorted((g for g in groups if len(g) > 1), key=lambda g: (-num_lost(confusion, g), g))
    grouped = [c for group in groups for c in group]
    rest = by_accuracy[~np.isin(by_accuracy, grouped)]
    return ClassOrder(groups, np.concatenate([np.array(grouped, dtype=np.int64), rest]))


def num_lost(confusion: np.ndarray, group: list[int]) -> int:
    """Videos of a group's classes that were called by another class of it."""
    inside = confusion[np.ix_(group, group)]
    return int(inside.sum() - inside.trace())


def confused_pairs(confusion: np.ndarray, limit: int) -> list[tuple[int, int, int]]:
    """(class, what it was called, videos), most videos first, then the largest share of the class; at most `limit`."""
    wrong = confusion - np.diag(confusion.diagonal())
    rows, columns = np.nonzero(wrong)
    counts = wrong[rows, columns]
    order = np.lexsort((columns, rows, -counts / confusion.sum(axis=1)[rows], -counts))[:limit]
    return [(int(rows[i]), int(columns[i]), int(counts[i])) for i in order]
