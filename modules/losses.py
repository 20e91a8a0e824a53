"""Training losses. B clips of this process, K classes."""

import torch
from torch.nn import functional as F


def weighted_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum of cross-entropies of (B, K) logits against (B,) int64 labels, each times its (B,) weight.

    A sum, so that the caller divides by the number of clips over all processes and accumulated batches: a mean of
    unequal shares would be another loss.
    """
    losses = F.cross_entropy(logits.float(), labels, reduction="none")
    return (losses * weights).sum()
