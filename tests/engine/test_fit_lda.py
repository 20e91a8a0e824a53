"""The LDA classifier."""

import numpy as np
import torch

from engine.fit_lda import fit_lda
from modules.scorers.cosine import scaled_cosine


def clusters(num_classes: int, num_each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes that differ in the first values, under noise that is larger in the others; lengths of every size."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(num_classes, 24))
    centres[:, 12:] = 0
    labels = np.repeat(np.arange(num_classes), num_each)
    noise = rng.normal(size=(len(labels), 24)) * np.where(np.arange(24) < 12, 0.3, 4)
    return ((centres[labels] + noise) * rng.uniform(0.5, 9, (len(labels), 1))).astype(np.float32), labels


def test_coefficients_classify_new_videos():
    matrix = fit_lda(*clusters(5, 60, seed=0))
    assert matrix.shape == (5, 24) and matrix.dtype == torch.float32
    videos, labels = clusters(5, 40, seed=1)
    accuracy = (scaled_cosine(torch.from_numpy(videos), matrix).argmax(1).numpy() == labels).mean()
    means = torch.stack([torch.from_numpy(videos[labels == k]).mean(0) for k in range(5)])
    by_means = (scaled_cosine(torch.from_numpy(videos), means).argmax(1).numpy() == labels).mean()
    assert accuracy > 0.9 > by_means  # the noisy values are left out, which plain means cannot


def test_two_classes_have_a_row_each():
    matrix = fit_lda(*clusters(2, 60, seed=0))
    assert matrix.shape == (2, 24) and torch.equal(matrix[0], -matrix[1])
    videos, labels = clusters(2, 40, seed=1)
    assert (scaled_cosine(torch.from_numpy(videos), matrix).argmax(1).numpy() == labels).mean() > 0.9
