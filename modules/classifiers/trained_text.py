"""`fix_text: false`: one prompt per class, encoded by a trained text tower."""

import torch
from torch import nn

from clip import ClipModel
from modules.classifiers.trained import TrainedClassifier
from modules.prompts import class_prompts
from utils.schema import Config


class TrainedText(TrainedClassifier):
    """Has no parameters.

    Args:
        tokens: (K, L) int64.
    """

    tokens: torch.Tensor

    def __init__(self, tokens: torch.Tensor):
        super().__init__()
        self.register_buffer("tokens", tokens, persistent=False)

    @classmethod
    def is_asked_for(cls, cfg: Config) -> bool:
        return not cfg.network.fix_text

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel, names: list[str], text: torch.Tensor | None) -> "TrainedText":
        return cls(clip_model.tokenize([prompt for (prompt,) in class_prompts(names, cfg.network.prompt)]))

    def of_classes(self, cfg: Config, clip_model: ClipModel, names: list[str]) -> "TrainedText":
        return self.build(cfg, clip_model, names, None)

    def forward(self, text: nn.Module, rows: torch.Tensor | None = None) -> torch.Tensor:
        return text(self.tokens if rows is None else self.tokens[rows])
