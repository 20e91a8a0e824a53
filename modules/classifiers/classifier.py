"""Base class of sources of class embeddings."""

from typing import ClassVar

import torch

from clip import ClipModel
from modules.classifiers import CLASSIFIERS
from utils.components import Component
from utils.schema import Config


class Classifier(Component):
    """A source of class embeddings, K classes, D embedding. Subclasses are not instantiated."""

    table = CLASSIFIERS
    takes_any_names: ClassVar[bool] = False  # whether other classes can be used after training
    is_drawn: ClassVar[bool] = False  # whether the embeddings depend on the run's seed

    @classmethod
    def embed(cls, cfg: Config, clip_model: ClipModel, names: list[str], device: torch.device) -> torch.Tensor:
        """(K, D) float32 class embeddings of K names, not normalised, on the CPU. Raises a UserError if they cannot be
        computed."""
        raise NotImplementedError
