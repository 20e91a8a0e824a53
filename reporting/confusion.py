"""Confusions between classes: pure functions of counts.

Legend: K classes; a confusion matrix C is int (K,K), C[i, j] is the number of videos of class i predicted as j.
"""

import re
from collections import Counter
from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

GROUP_SHARE = 0.05
"""Classes form a group if, on average over its pairs, this share of the videos of one is predicted as the other."""


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 (K,K). Unreadable videos (`predicted` -1) are excluded."""
    readable = predicted >= 0
    flat = labels[readable] * num_classes + predicted[readable]
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


class ClassOrder(NamedTuple):
    """`groups` of classes that are confused with each other, those with most errors first; `order`: all K classes,
    first the groups, then the others from the least accurate on."""

    groups: list[list[int]]
    order: np.ndarray


def group_classes(confusion: np.ndarray) -> ClassOrder:
    """Average-linkage clustering of the symmetrised confusion (scipy), cut at `GROUP_SHARE`.

    The similarity of two classes is the mean of the shares of i predicted as j, and of j predicted as i.
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


def cluster_classes(confusion: np.ndarray, text: np.ndarray, limit: int) -> list[list[int]]:
    """All K classes in at most `limit` clusters by Ward's method (scipy), with similar ones next to each other.

    Classes are close if their texts are similar or if they are confused with each other; for classes that are never
    confused, only the texts count.

    Args:
        text: float32 (K,D), the class embeddings.
    """
    if len(confusion) < 2:
        return [[c] for c in range(len(confusion))]
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    directions = text - text.mean(axis=0)
    directions = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    tree = linkage(np.concatenate([shares + shares.T, directions], axis=1), "ward")
    cluster_of = fcluster(tree, limit, "maxclust")
    leaves = leaves_list(tree)
    return [[int(c) for c in leaves if cluster_of[c] == cluster] for cluster in dict.fromkeys(cluster_of[leaves])]


def group_names(groups: list[list[str]], all_names: list[str]) -> list[str]:
    """A short name for each group of classes, with its size: the `distinct_word` if it is unique, otherwise the first
    class."""
    words = [distinct_word(members, all_names) if len(members) > 1 else None for members in groups]
    names = []
    for word, members in zip(words, groups):
        if word and words.count(word) == 1:
            names.append(f"{word} ({len(members)})")
        else:
            names.append(f"{members[0]} + {len(members) - 1}" if len(members) > 1 else members[0])
    return names


def distinct_word(members: list[str], all_names: list[str]) -> str | None:
    """The word in most names of a group of classes and in few others, or None."""
    inside, everywhere = (
        Counter(word for name in names for word in set(re.findall(r"\w+", name.lower())))
        for names in (members, all_names)
    )
    num_others = max(len(all_names) - len(members), 1)

    def distinction(word: str) -> tuple[float, int, str]:
        share = inside[word] / len(members)
        share_elsewhere = (everywhere[word] - inside[word]) / num_others
        return (share - share_elsewhere if share >= 0.6 else 0.0, len(word), word)

    best = max(inside, key=distinction, default="")
    return best if best and distinction(best)[0] >= 0.4 else None


def num_lost(confusion: np.ndarray, group: list[int]) -> int:
    """Number of videos of a group's classes that were predicted as another class of the group."""
    inside = confusion[np.ix_(group, group)]
    return int(inside.sum() - inside.trace())


def confused_pairs(confusion: np.ndarray, limit: int) -> list[tuple[int, int, int]]:
    """At most `limit` (class, predicted class, number of videos), sorted by number, then by share of the class."""
    wrong = confusion - np.diag(confusion.diagonal())
    rows, columns = np.nonzero(wrong)
    counts = wrong[rows, columns]
    order = np.lexsort((columns, rows, -counts / confusion.sum(axis=1)[rows], -counts))[:limit]
    return [(int(rows[i]), int(columns[i]), int(counts[i])) for i in order]
