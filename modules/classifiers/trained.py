"""Base class of classifiers that train with the model."""

from typing import ClassVar

import torch
from torch import nn

from clip import ClipModel
from modules.classifiers import TRAINED
from utils.components import Component
from utils.schema import Config, NetworkConfig


class TrainedClassifier(Component, nn.Module):
    """Makes the class embeddings inside the model, as they are now. Its own parameters train at the full rate.

    K classes, n rows, D embedding.
    """

    table = TRAINED
    mark: ClassVar[str | None] = None  # a parameter that only its checkpoints have; None: it has none of its own
    absent: ClassVar[str] = ""  # what a checkpoint without it holds, and the remedy, for messages
    reads_text: ClassVar[bool] = True  # whether it needs CLIP's text tower in the model

    @classmethod
    def is_asked_for(cls, cfg: Config) -> bool:
        raise NotImplementedError

    @classmethod
    def build(
        cls, cfg: Config, clip_model: ClipModel, names: list[str], text: torch.Tensor | None
    ) -> "TrainedClassifier":
        """As a training starts it, for K class names.

        Args:
            text: (K, D) of `network.classifier`.

        Raises:
            UserError: it cannot be made for these names or this text tower.
        """
        raise NotImplementedError

    @classmethod
    def own_classes(cls, network: NetworkConfig) -> str | None:
        """The setting by which it belongs to the classes of its training; None: it serves any others."""
        return None

    def of_classes(self, cfg: Config, clip_model: ClipModel, names: list[str]) -> "TrainedClassifier":
        """The same for other classes, sharing what was learned; only where `own_classes` is None."""
        raise NotImplementedError

    @staticmethod
    def describe(state: dict[str, torch.Tensor]) -> str:
        """What a checkpoint with it holds, and the setting that takes it, for messages."""
        raise NotImplementedError

    def fault(self, state: dict[str, torch.Tensor]) -> str | None:
        """Why tensors of a checkpoint with this kind of classifier do not fit this one; None: they do."""
        return None

    def forward(self, text: nn.Module | None, rows: torch.Tensor | None = None) -> torch.Tensor:
        """(K, D) class embeddings, not normalised, by the text tower `text`; (n, D) of classes `rows` (n,) int64."""
        raise NotImplementedError


def trained_classifier(cfg: Config) -> type[TrainedClassifier] | None:
    """The kind that a config asks for; None where the class embeddings are frozen."""
    return next((found for found in TrainedClassifier.listed().values() if found.is_asked_for(cfg)), None)
