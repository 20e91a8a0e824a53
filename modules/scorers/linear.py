"""`scorer: linear`: a linear classifier with bias on unnormalised video embeddings."""

import torch
from torch import nn

from clip import ClipModel
from modules.scorers.scorer import Scale, Scorer
from utils.config_fields import Section
from utils.errors import UserError
from utils.metrics import EVAL_LOGIT_SCALE
from utils.schema import Config


class LinearScorer(Scorer):
    """The weights are the trained class embeddings (network.train_classifier); the bias is initialised with 0.

    Attributes:
        bias: (K,).
    """

    of_classes = ("bias",)

    def __init__(self, settings: Section, num_classes: int = 0):
        super().__init__(settings)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel, text: torch.Tensor | None) -> "LinearScorer":
        if not cfg.network.train_classifier:
            raise UserError("network.scorer linear: needs trained class embeddings; set network.train_classifier=true")
        assert text is not None
        return cls(cls.settings(cfg), len(text))

    def forward(self, videos: torch.Tensor, classes: torch.Tensor, scale: Scale = EVAL_LOGIT_SCALE) -> torch.Tensor:
        with torch.autocast(videos.device.type, enabled=False):
            return videos.float() @ classes.float().T + self.bias.to(videos.device)
