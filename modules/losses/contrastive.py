"""`loss_type: NCE` and `DS`. B clips of this process, N clips of all processes, K classes, D embedding."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from modules.losses.loss import Loss
from utils.loaders import Batch

TARGET_SHARPNESS = 10.0  # softmax(10 * target): the published target, whose rows are not exactly one-hot
PRIOR_TEMPERATURE = 1000.0  # of the dual softmax, as published


class Contrastive(Loss):
    """Contrastive loss between the clips and texts of all processes, in both directions.

    `one_way`: the loss of (N, N) logits and (N, N) targets in one direction.
    """

    one_way: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def __call__(self, model: nn.Module, batch: Batch, text: torch.Tensor | None = None) -> torch.Tensor:
        video, rows, scale = model(batch["frames"], text, batch["label"])
        bare: Any = getattr(model, "module", model)  # without DDP's wrapper
        scorer = partial(bare.scorer, scale=scale)
        return contrastive_loss(self.one_way, scorer, video, rows, batch["label"], batch["weight"])


def contrastive_loss(
    one_way: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    video: torch.Tensor,
    text: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Contrastive loss of the clips of all processes, times N, the number of clips whose weight is not 0.

    Every process gets the same value. The gradients are those of this value on each process, so the mean over
    processes, which DDP takes, is the gradient of one process with the whole batch.

    Args:
        one_way: `nce_one_way` or `ds_one_way`.
        score: computes logits (N, N) from the features of clips and texts.
        video, text: (B, ...) features of clips and their texts, not normalised; B may differ between processes.
        labels: (B,) int64; clips of the same class are positives. Or (B, K) soft labels; then clips are positives to
            the extent that their labels agree.
        weights: (B,) 1, or 0 for a placeholder that does not count.
    """
    real = weights > 0
    video, text, labels = video.float()[real], text.float()[real], labels[real]
    logits = score(gather(video), gather(text))
    labels = gather(labels)
    with torch.autocast(video.device.type, enabled=False):
        target = labels @ labels.T if labels.ndim == 2 else (labels[:, None] == labels[None]).float()
        return len(labels) * (one_way(logits, target) + one_way(logits.T, target)) / 2


def nce_one_way(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over the N rows of KL(softmax(10 * target) || softmax(logits)); both (N, N). The published "mean * N"."""
    log_probabilities = F.log_softmax(logits, dim=1)
    return F.kl_div(log_probabilities, F.softmax(TARGET_SHARPNESS * target, dim=1), reduction="batchmean")


def ds_one_way(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Dual softmax: `nce_one_way` of the logits times softmax(logits / 1000) over the other direction, times N."""
    prior = F.softmax(logits / PRIOR_TEMPERATURE, dim=0)
    return nce_one_way(logits * prior * len(logits), target)


class NoiseContrastive(Contrastive):
    one_way = staticmethod(nce_one_way)


class DualSoftmax(Contrastive):
    one_way = staticmethod(ds_one_way)


def gather(rows: torch.Tensor) -> torch.Tensor:
    """(B, ...) rows of each process -> (N, ...), in order of rank, on every process; B may differ, and be 0.

    The gradient of a row is the sum of the gradients that all processes have for it.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    # Collective operations need equal shapes, so shares are padded to the largest and cut again.
    filling = rows.new_zeros(max(map(int, counts)) - len(rows), *rows.shape[1:])
    parts = all_gather(torch.cat([rows, filling]))
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts)])
