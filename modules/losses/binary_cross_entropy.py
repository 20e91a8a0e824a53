"""`loss_type: BCE`: binary cross-entropy of each class, for lists with several labels per video."""

import torch
from torch import nn
from torch.nn import functional as F

from modules.losses.loss import Loss
from utils.config_fields import Section, key
from utils.loaders import Batch
from utils.schema import Config


class BinaryCrossEntropy(Loss):
    """The mean over classes of the binary cross-entropy of sigmoid(logit + bias), for each clip.

    CLIP's logits (100 x cosine) are 15 to 30 for any video and text, where a sigmoid is 1, so a bias is needed, as in
    SigLIP (arXiv 2303.15343). It does not affect the ranking of the videos of a class.
    """

    class Settings(Section):
        bias: float = key(-20.0, "added to every logit before the sigmoid, in training")

    def __init__(self, cfg: Config, world_size: int):
        super().__init__(cfg, world_size)
        self.bias = self.settings(cfg).bias

    def __call__(self, model: nn.Module, batch: Batch, text: torch.Tensor | None = None) -> torch.Tensor:
        logits = model(batch["frames"], text).float() + self.bias
        per_class = F.binary_cross_entropy_with_logits(logits, batch["label"], reduction="none")
        return (per_class.mean(dim=1) * batch["weight"]).sum() * self.world_size
