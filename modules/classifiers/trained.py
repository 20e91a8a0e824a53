"""Base class of classifiers that train with the model."""

from typing import ClassVar

import torch
from torch import nn

from clip import ClipModel
from modules.classifiers import TRAINED
from utils.components import Component
from utils.schema import Config, NetworkConfig


class TrainedClassifier(Component, nn.Module):
    """Computes class embeddings inside the model. Its own parameters are trained at the full learning rate.

    K classes, n rows, D embedding.
    """

    table = TRAINED
    mark: ClassVar[str | None] = None  # a parameter that only its checkpoints have; None: it has no parameters
    absent: ClassVar[str] = ""  # what checkpoints without it contain, and the remedy, for messages
    reads_text: ClassVar[bool] = True  # whether it needs CLIP's text tower in the model

    @classmethod
    def is_asked_for(cls, cfg: Config) -> bool:
        """Whether the config enables it. If it enables several, the first in the table is used."""
        raise NotImplementedError

    @classmethod
    def build(
        cls, cfg: Config, clip_model: ClipModel, names: list[str], text: torch.Tensor | None
    ) -> "TrainedClassifier":
        """Create it with initial values for K class names.

        Args:
            text: (K, D), embeddings of `network.classifier`.

        Raises:
            UserError: the names or the text tower are not supported.
        """
        raise NotImplementedError

    @classmethod
    def own_classes(cls, network: NetworkConfig) -> str | None:
        """The setting that ties it to the training classes; None: other classes can be used."""
        return None

    def of_classes(self, cfg: Config, clip_model: ClipModel, names: list[str]) -> "TrainedClassifier":
        """A copy for other classes that shares the learned parameters; only if `own_classes` is None."""
        raise NotImplementedError

    @staticmethod
    def describe(state: dict[str, torch.Tensor]) -> str:
        """Description of a checkpoint with it, and the setting to use, for messages."""
        raise NotImplementedError

    def fault(self, state: dict[str, torch.Tensor]) -> str | None:
        """Why tensors of a checkpoint with this kind of classifier, by their names in it, do not fit this one; None:
        they do. The message follows the name of the checkpoint."""
        return None

    def forward(self, text: nn.Module | None, rows: torch.Tensor | None = None) -> torch.Tensor:
        """(K, D) class embeddings, not normalised, by the text tower `text`; (n, D) of classes `rows` (n,) int64."""
        raise NotImplementedError


def trained_classifier(cfg: Config) -> type[TrainedClassifier] | None:
    """The kind of trained class embeddings in a config; None if they are frozen."""
    return next((kind for kind in TrainedClassifier.listed().values() if kind.is_asked_for(cfg)), None)
