"""The embedding map: videos and class texts on a plane."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from utils.metrics import normalize

PERPLEXITY = 30


def project(videos: np.ndarray, text: np.ndarray) -> dict[str, np.ndarray]:
    """Two maps, float32 (n+K,2) each with coordinates in 0..1, the videos first: "t-SNE" and "PCA".

    CLIP's videos and texts are in two separate cones (Liang et al. 2022, arXiv 2203.02053); the gap would dominate the
    map, so videos and texts are centred separately.

    Args:
        videos: float32 (n,D), none NaN. text: float32 (K,D). n + K at least 4.
    """
    rows = np.concatenate([_directions(videos), _directions(text)])
    assert len(rows) >= 4, "too few points for a map"
    if not rows.any():  # all videos are equal, and all texts: scikit-learn's t-SNE would crash
        return dict.fromkeys(("t-SNE", "PCA"), np.full((len(rows), 2), 0.5, dtype=np.float32))
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    return {
        "t-SNE": _into_unit_square(TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(rows)),
        "PCA": _into_unit_square(PCA(2, svd_solver="full").fit_transform(rows)),
    }


def _directions(rows: np.ndarray) -> np.ndarray:
    """Unit vectors from the mean direction of the rows; a row equal to the mean is 0."""
    centred = normalize(rows)
    centred = centred - centred.mean(axis=0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


def _into_unit_square(points: np.ndarray) -> np.ndarray:
    """Translate and scale, equally in both directions, to fill 0..1."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = max(float((high - low).max()), 1e-9)
    return ((points - (low + high) / 2) / span + 0.5).astype(np.float32)
