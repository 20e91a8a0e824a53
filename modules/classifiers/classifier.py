"""Base class of sources of class embeddings."""

from typing import ClassVar

import torch

from clip import ClipModel
from modules.classifiers import CLASSIFIERS
from utils.components import Component
from utils.schema import Config


class Classifier(Component):
    """A source of class embeddings, K classes, D embedding. The classes are used as they are; none is instantiated.

    Attributes:
        takes_any_names: whether a trained model can be given other class names than those of its training.
        is_drawn: whether the embeddings depend on the run's seed.
    """

    table = CLASSIFIERS
    takes_any_names: ClassVar[bool] = False
    is_drawn: ClassVar[bool] = False

    @classmethod
    def embed(cls, cfg: Config, clip_model: ClipModel, names: list[str], device: torch.device) -> torch.Tensor:
        """(K, D) float32 class embeddings of K names, of any length, on the CPU."""
        raise NotImplementedError
