"""`loss_type: CE`: cross-entropy over the class texts."""

import torch
from torch import nn
from torch.nn import functional as F

from modules.losses.loss import Loss
from utils.loaders import Batch
from utils.memory import to_device
from utils.schema import Config


class CrossEntropy(Loss):
    """Cross-entropy over all classes; with `data.label_space: apart` over the classes of the clip's data set."""

    takes_class_weights = True

    def __init__(self, cfg: Config, world_size: int):
        super().__init__(cfg, world_size)
        self.spans = cfg.data.class_spans

    def __call__(self, model: nn.Module, batch: Batch, text: torch.Tensor | None = None) -> torch.Tensor:
        logits = model(batch["frames"], text)
        if self.spans:
            logits = own_logits(logits, batch["label"], self.spans)
        return weighted_cross_entropy(logits, batch["label"], batch["weight"], self.class_weights) * self.world_size


def own_logits(logits: torch.Tensor, labels: torch.Tensor, spans: list[tuple[int, int]]) -> torch.Tensor:
    """Set (B, K) logits of classes of other data sets than that of the label (B,) int64 to -inf.

    Args:
        spans: [first, last + 1) class of each set, in order.
    """
    ends = to_device(torch.tensor([end for _, end in spans]), logits.device)
    of_class = torch.bucketize(torch.arange(logits.shape[1], device=logits.device), ends, right=True)
    of_clip = torch.bucketize(labels, ends, right=True)
    return logits.masked_fill(of_class != of_clip[:, None], float("-inf"))


def weighted_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, class_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Weighted sum of the cross-entropies of (B, K) logits with weights (B,).

    A sum, because the caller divides by the number of clips over all processes and accumulated batches, which may have
    different sizes.

    Args:
        labels: (B,) int64, or (B, K) soft labels that sum to 1.
        class_weights: (K,) factors of the classes; they do not change the divisor.
    """
    losses = F.cross_entropy(logits.float(), labels, weight=class_weights, reduction="none")
    return (losses * weights).sum()
