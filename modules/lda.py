"""The LDA classifier: what separates the classes' videos, as class embeddings. N videos, K classes, D embedding."""

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis


def fit_lda(embeddings: np.ndarray, labels: np.ndarray) -> torch.Tensor:
    """float32 (K, D) coefficients of a linear discriminant analysis of (N, D) video embeddings, taken at length 1.

    Args:
        labels: (N,) int64, each of 0..K-1 at least once.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    coefficients = LinearDiscriminantAnalysis().fit(embeddings / lengths, labels).coef_
    if len(coefficients) == 1:  # two classes: one direction, towards the second
        coefficients = np.concatenate([-coefficients, coefficients])
    return torch.from_numpy(coefficients.astype(np.float32))
