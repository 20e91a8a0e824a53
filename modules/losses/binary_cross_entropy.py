"""`loss_type: BCE`: binary cross-entropy of each class, for lists with several labels a video."""

import torch
from torch import nn
from torch.nn import functional as F

from modules.losses.loss import Loss
from utils.config_fields import Section, key
from utils.loaders import Batch
from utils.schema import Config


class BinaryCrossEntropy(Loss):
    """Of a clip the mean over the classes of the binary cross-entropy of sigmoid(logit + bias).

    100 x cosine of CLIP's is 15 to 30 for any video and text, where a sigmoid is 1; hence the bias. SigLIP (arXiv
    2303.15343) has one as well. It does not change how the videos of a class rank.
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
