"""Base class of training losses."""

from typing import ClassVar

import torch
from torch import nn

from modules.losses import LOSSES
from utils.components import Component
from utils.errors import UserError
from utils.loaders import Batch
from utils.schema import Config


class Loss(Component):
    """A function of model and batch whose mean over processes is the sum over the clips of the batch on all of them."""

    table = LOSSES
    takes_class_weights: ClassVar[bool] = False  # whether it uses `class_weights`
    class_weights: torch.Tensor | None = None  # float32 (K,), `solver.class_weights`; None: 1

    @classmethod
    def check_class_weights(cls, cfg: Config) -> None:
        """Raise a UserError if the config has class weights and the loss does not support them."""
        if cfg.solver.class_weights is not None and not cls.takes_class_weights:
            raise UserError(
                f"solver.class_weights: not supported by loss_type {cfg.solver.loss_type}; set class_weights to null"
            )

    def __init__(self, cfg: Config, world_size: int):
        self.world_size = world_size

    def __call__(self, model: nn.Module, batch: Batch, text: torch.Tensor | None = None) -> torch.Tensor:
        """() float32.

        Args:
            model: VideoCLIP, or its DDP wrapper.
            batch: `frames` (B, T, C, H, W) uint8, `label` (B,) int64 or (B, K) soft labels, `weight` (B,) 1,
                or 0 for a placeholder that does not count.
            text: frozen class embeddings (K, D); None: they are computed by the model.
        """
        raise NotImplementedError
