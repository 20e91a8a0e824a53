"""Confusion matrices, groups of classes, confused pairs, and the projections of the map."""

import numpy as np
import pytest

from reporting.confusion import confused_pairs, confusion_matrix, group_classes, num_lost
from reporting.projection import project
from tests.reporting.report_runs import make_table


def test_unreadable_videos_are_not_counted():
    matrix = confusion_matrix(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, -1, 0]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_confused_classes_are_grouped_and_come_first():
    matrix = np.diag([10, 10, 10, 10, 10, 4])
    matrix[1, 4] = matrix[4, 1] = 3
    matrix[0, 3] = 2  # fewer videos lost: the second group
    found = group_classes(matrix)
    assert [sorted(g) for g in found.groups] == [[1, 4], [0, 3]]
    assert sorted(found.order.tolist()) == list(range(6)) and set(found.order[:2]) == {1, 4}
    assert [num_lost(matrix, g) for g in found.groups] == [6, 2]


def test_classes_without_a_group_start_with_the_least_accurate():
    matrix = np.diag([9, 50, 50])
    matrix[2, 0] = 1  # 2%: not a group
    found = group_classes(matrix)
    assert found.groups == [] and found.order.tolist() == [2, 0, 1]


def test_one_class_and_classes_without_videos():
    assert group_classes(np.array([[3]])).order.tolist() == [0]
    assert sorted(group_classes(np.zeros((4, 4), dtype=int)).order.tolist()) == [0, 1, 2, 3]


def test_constructed_groups_are_found():
    """`make_table` makes groups of four similar classes, which a noisy model confuses."""
    table, text = make_table(800, 16, spread=3.5)
    cosine = (table.embeddings / np.linalg.norm(table.embeddings, axis=1, keepdims=True)) @ (
        text / np.linalg.norm(text, axis=1, keepdims=True)
    ).T
    groups = group_classes(confusion_matrix(table.labels, cosine.argmax(axis=1), 16)).groups
    assert sorted(sorted(g) for g in groups) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]


def test_pairs_by_videos_then_by_share():
    matrix = np.array([[5, 2, 0], [2, 18, 1], [0, 0, 3]])
    assert confused_pairs(matrix, 9) == [(0, 1, 2), (1, 0, 2), (1, 2, 1)]
    assert confused_pairs(matrix, 1) == [(0, 1, 2)]


@pytest.mark.parametrize(("num_videos", "num_classes"), [(40, 8), (3, 1)])
def test_maps_have_videos_then_texts_and_are_reproducible(num_videos, num_classes):
    table, text = make_table(num_videos, num_classes)
    maps = project(table.embeddings, text)
    again = project(table.embeddings, text)
    for name in ("t-SNE", "PCA"):
        assert maps[name].shape == (num_videos + num_classes, 2) and np.isfinite(maps[name]).all()
        assert maps[name].min() >= 0 and maps[name].max() <= 1
        assert np.array_equal(maps[name], again[name])


def test_a_map_of_equal_videos_is_a_point():
    maps = project(np.ones((4, 8), dtype=np.float32), np.ones((1, 8), dtype=np.float32))
    assert all((points == 0.5).all() for points in maps.values()) and len(maps) == 2


def test_texts_are_near_their_videos():
    """Although all texts are far from all videos, as in CLIP."""
    table, text = make_table(80, 8, spread=0.5)
    apart = 10 * np.ones(32, dtype=np.float32)
    points = project(table.embeddings + apart, text - apart)["t-SNE"]
    videos, texts = points[:80], points[80:]
    centres = np.stack([videos[table.labels // 4 == g].mean(axis=0) for g in range(2)])
    nearest = np.linalg.norm(texts[:, None] - centres, axis=2).argmin(axis=1)
    assert nearest.tolist() == [0] * 4 + [1] * 4
