"""FROSTER (arXiv 2402.03241): distillation of frame and class embeddings from frozen CLIP.

Legend: B clips, T frames, N = B*T images, C channels, D embedding, K classes.

Added to the loss of each clip is `solver.distill` times the mean over frames of 1 - cos(v + 0.1 P(v), v0), plus the
mean over classes of 1 - cos(t + 0.1 Q(t), t0), where v, t are the model's normalised embeddings and v0, t0 those of
frozen CLIP; P, Q are learned and initialised with 0. If the class embeddings are frozen, the second part is left out.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from modules.build import build_text, load_clip_model
from modules.losses.loss import Loss
from modules.video_clip import VideoCLIP
from utils.loaders import Batch
from utils.schema import Config

PROJECTED_SHARE = 0.1  # of the projection in what is compared, as published


class Distillation(nn.Module):
    """The trained projections P and Q, and frozen CLIP, which is not part of the model's state dict.

    Args:
        tower: frozen CLIP's image tower, (N, C, H, W) -> (N, D).
        classes: its class embeddings (K, D); None: those of the model are frozen.
    """

    def __init__(self, width: int, tower: nn.Module, classes: torch.Tensor | None):
        super().__init__()
        self.frames = _projection(width)
        self.classes = None if classes is None else _projection(width)
        self.frozen_classes: torch.Tensor | None
        self.register_buffer("frozen_classes", classes, persistent=False)
        self.towers = [tower.eval().requires_grad_(False)]  # in a list, so that it is not a submodule

    def forward(self, images: torch.Tensor, frames: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """(B,) float32 distances: of each clip's frames, mean over T, plus of the classes, mean over K.

        Args:
            images: (N, C, H, W) normalised pixels. frames: (B, T, D). classes: (K, D).
        """
        with torch.no_grad():
            frozen = self.towers[0].to(images.device)(images).view_as(frames)
        with torch.autocast(frames.device.type, enabled=False):
            distances = _distance(frames, self.frames, frozen).mean(dim=1)
            if self.classes is not None and self.frozen_classes is not None:
                distances = distances + _distance(classes, self.classes, self.frozen_classes).mean()
        return distances


def _projection(width: int) -> nn.Sequential:
    """Linear, GELU, Linear without biases; Kaiming normal initialisation, zeros for the second."""
    first, second = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
    nn.init.kaiming_normal_(first.weight)
    nn.init.zeros_(second.weight)
    return nn.Sequential(first, nn.GELU(), second)


def _distance(own: torch.Tensor, projection: nn.Module, frozen: torch.Tensor) -> torch.Tensor:
    """1 - cosine over the last dimension of what is compared, float32."""
    own = F.normalize(own.float(), dim=-1)
    return 1 - F.cosine_similarity(own + PROJECTED_SHARE * projection(own), frozen.float(), dim=-1)


def attach_distillation(cfg: Config, model: VideoCLIP, names: list[str], device: torch.device) -> None:
    """Set the model's `distillation`, with another copy of the config's CLIP. Raises a UserError as
    `load_clip_model` and `build_text`."""
    clip_model = load_clip_model(cfg)
    classes = None if model.classifier is None else build_text(cfg, clip_model, names, device)
    model.distillation = Distillation(model.embed_dim, clip_model.visual, classes)


class Distilled:
    """A loss with the distance to frozen CLIP added, `weight` times.

    Args:
        loss: cross-entropy, whose forward pass makes frame and class embeddings.
    """

    def __init__(self, loss: Loss, weight: float):
        self.loss, self.weight = loss, weight

    def __call__(self, model: nn.Module, batch: Batch, text: torch.Tensor | None = None) -> torch.Tensor:
        """() float32, see `Loss`."""
        total = self.loss(model, batch, text)
        own = model.module if isinstance(model, DistributedDataParallel) else model
        assert isinstance(own, VideoCLIP) and own.distillation is not None and own.embeddings is not None
        frames, classes = own.embeddings
        distances = own.distillation(own.normalized_images(batch["frames"]), frames, classes)
        return total + self.weight * self.loss.world_size * (distances * batch["weight"]).sum()
