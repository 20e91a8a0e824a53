"""`train_classifier`: the matrix of class embeddings is a parameter."""

import torch
from torch import nn

from clip import ClipModel
from modules.classifiers.trained import TrainedClassifier
from utils.schema import Config, NetworkConfig


class TrainedMatrix(TrainedClassifier):
    mark = "weight"
    absent = "no class embeddings; set network.train_classifier=false"
    reads_text = False

    def __init__(self, matrix: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(matrix.detach().float().clone())

    @classmethod
    def is_asked_for(cls, cfg: Config) -> bool:
        return cfg.network.train_classifier

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel, names: list[str], text: torch.Tensor | None) -> "TrainedMatrix":
        assert text is not None
        return cls(text)

    @classmethod
    def own_classes(cls, network: NetworkConfig) -> str:
        return "network.train_classifier"

    @staticmethod
    def describe(state: dict[str, torch.Tensor]) -> str:
        return "trained class embeddings; set network.train_classifier=true"

    def fault(self, state: dict[str, torch.Tensor]) -> str | None:
        return other_number_of_classes(state["weight"], self.weight)

    def forward(self, text: None, rows: torch.Tensor | None = None) -> torch.Tensor:
        return self.weight if rows is None else self.weight[rows]


def other_number_of_classes(saved: torch.Tensor, own: torch.Tensor) -> str | None:
    """The error for a parameter (K, ...) of another number of classes, if any."""
    if len(saved) == len(own):
        return None
    return f"its trained class embeddings are for {len(saved)} classes, data.label_list has {len(own)}"
