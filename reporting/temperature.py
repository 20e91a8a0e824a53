"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599, section 4.2): one number that logits are divided by.

Legend: N videos, K classes. Rows of NaN, videos that could not be read, are left out.
"""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from reporting.outcomes import figures, outcomes_of

RANGE = 0.01, 100.0  # of temperatures, searched on a logarithmic scale


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least negative log-likelihood of the labels. `logits`: (N,K). `labels`: int (N,)."""
    is_readable = ~np.isnan(logits).any(axis=1)
    known, right = logits[is_readable].astype(np.float64), labels[is_readable]
    of_label = known[np.arange(len(known)), right]

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        return float(np.mean(logsumexp(known / temperature, axis=1) - of_label / temperature))

    minimum: Any = minimize_scalar(loss, bounds=np.log(RANGE), method="bounded")
    return float(np.exp(minimum.x))


def calibration_summary(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Expected calibration error in percent, the fitted temperature, and the error after dividing by a fitted one.

    For the last, each half of the videos (every other one) is divided by the temperature fitted on the other half, so
    that no video affects its own temperature.

    Args:
        logits: (N,K), at the evaluation temperature. labels: int (N,).

    Returns:
        An empty dict if fewer than two videos are readable.
    """
    if (~np.isnan(logits).any(axis=1)).sum() < 2:
        return {}
    scaled = np.array(logits, dtype=np.float64)
    for own, other in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        if not np.isnan(logits[other]).any(axis=1).all():
            scaled[own] /= fit_temperature(logits[other], labels[other])
    return {
        "ece": float(figures(outcomes_of(logits, labels))["ece"][0]),
        "temperature": fit_temperature(logits, labels),
        "ece_at_temperature": float(figures(outcomes_of(scaled, labels))["ece"][0]),
    }
