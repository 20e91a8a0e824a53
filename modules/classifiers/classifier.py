"""Base class of sources of class embeddings."""

from typing import ClassVar

import torch

from clip import ClipModel
from modules.classifiers import CLASSIFIERS
from utils.components import Component
from utils.schema import Config


class Classifier(Component):
    """A source of class embeddings, K classes, D embedding. The classes are used as they are; none is instantiated."""

    table = CLASSIFIERS
    takes_any_names: ClassVar[bool] = False  # whether a trained model takes classes other than its training's
    is_drawn: ClassVar[bool] = False  # whether the embeddings depend on the run's seed

    @classmethod
    def embed(cls, cfg: Config, clip_model: ClipModel, names: list[str], device: torch.device) -> torch.Tensor:
        """(K, D) float32 class embeddings of K names, of any length, on the CPU.

        Raises:
            UserError: they cannot be made; the message says why.
        """
        raise NotImplementedError
