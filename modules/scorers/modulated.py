"""`scorer: modulated` (MoTE, arXiv 2410.10589): the less similar the classes are to the training classes, the less of
the temporal head's output is added to the mean of the frames.

Shapes: B videos, D embedding, K classes, C training classes.
"""

import torch
from torch.nn import functional as F

from clip import ClipModel
from modules.classifiers.trained import trained_classifier
from modules.heads.head import Head
from modules.scorers.cosine import scaled_cosine
from modules.scorers.scorer import Scale, Scorer
from utils.config_fields import Section, key
from utils.errors import UserError
from utils.metrics import EVAL_LOGIT_SCALE
from utils.schema import Config


class Modulated(Scorer):
    """Cosine similarity; in evaluation the video embedding is x + m h, with x the mean of the frames and h the output
    of the head.

    m = exp(-(1 - s) / `temperature`), where s is the mean, over the `nearest` classes of x, of the maximum cosine to
    the `nearest` training classes of x. For training classes m is 1.

    A table contains x and h of each view.

    Attributes:
        trained_text: float32 (C, D), normalised embeddings of the training classes.
    """

    class Settings(Section):
        temperature: float = key(0.05, "smaller values reduce the head's output for new classes", gt=0)
        nearest: int = key(5, "number of nearest classes and nearest training classes to compare", "classes", ge=1)

    trained_text: torch.Tensor
    of_classes = ("trained_text",)
    published_names = ((r"^fusion_model\.spe_cls_feature$", "scorer.trained_text"),)

    def __init__(self, settings: Section, trained_text: torch.Tensor | None = None):
        super().__init__(settings)
        self.register_buffer("trained_text", torch.zeros(0, 0) if trained_text is None else trained_text)

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel, text: torch.Tensor | None) -> "Modulated":
        if trained_classifier(cfg) is not None or text is None:
            raise UserError("network.scorer modulated: needs frozen class embeddings; freeze them, or use cosine")
        return cls(cls.settings(cfg), F.normalize(text.float(), dim=-1))

    def of_frames(self, head: Head, frames: torch.Tensor) -> torch.Tensor:
        return self.of_joined(frames, head.over_frames(frames))

    def of_joined(self, frames: torch.Tensor, joined: torch.Tensor) -> torch.Tensor:
        mean = frames.float().mean(dim=1)
        return torch.stack([mean, joined.mean(dim=1) - mean], dim=1)

    def forward(self, videos: torch.Tensor, classes: torch.Tensor, scale: Scale = EVAL_LOGIT_SCALE) -> torch.Tensor:
        mean, added = videos.unbind(dim=1)
        if self.training:
            return scaled_cosine(mean + added, classes, scale)
        return scaled_cosine(mean + self.modulation(mean, classes)[:, None] * added, classes, scale)

    def modulation(self, mean: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """(B,) in 0..1: m of videos whose frames have the mean (B, D), for the classes (K, D)."""
        settings = self.own_settings
        with torch.autocast(mean.device.type, enabled=False):
            mean = F.normalize(mean.float(), dim=-1)
            new = _nearest(F.normalize(classes.float(), dim=-1), mean, settings.nearest)
            trained = _nearest(self.trained_text.to(mean.device), mean, settings.nearest)
            similarity = (new @ trained.transpose(1, 2)).amax(dim=2).mean(dim=1)
            return torch.exp(-(1 - similarity) / settings.temperature)


def _nearest(rows: torch.Tensor, mean: torch.Tensor, number: int) -> torch.Tensor:
    """(B, min(number, K), D): for each of (B, D) vectors those of the (K, D) rows with the largest dot products."""
    return rows[(mean @ rows.T).topk(min(number, len(rows))).indices]
