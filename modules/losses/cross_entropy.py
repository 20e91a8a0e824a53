"""`loss_type: CE`: cross-entropy over the class texts."""

import torch
from torch import nn
from torch.nn import functional as F

from modules.losses.loss import Loss


class CrossEntropy(Loss):
    takes_class_weights = True

    def __call__(
        self, model: nn.Module, batch: dict[str, torch.Tensor], text: torch.Tensor | None = None
    ) -> torch.Tensor:
        logits = model(batch["frames"], text)
        return weighted_cross_entropy(logits, batch["label"], batch["weight"], self.class_weights) * self.world_size


def weighted_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Sum of cross-entropies of (B, K) logits, each times its (B,) weight.

    A sum, so that the caller divides by the number of clips over all processes and accumulated batches: a mean of
    unequal shares would be another loss.

    Args:
        labels: (B,) int64, or (B, K) shares of the classes that sum to 1.
        class_weights: (K,) factors of the classes' parts; the caller divides by the number of clips all the same.
    """
    losses = F.cross_entropy(logits.float(), labels, weight=class_weights, reduction="none")
    return (losses * weights).sum()
