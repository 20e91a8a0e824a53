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
        """Raise UserError where the config has class weights that the loss does not take."""
        if cfg.solver.class_weights is not None and not cls.takes_class_weights:
            raise UserError(
                f"solver.class_weights: loss_type {cfg.solver.loss_type} does not take them; set class_weights to null"
            )

    def __init__(self, cfg: Config, world_size: int):
        self.world_size = world_size

    def __call__(self, model: nn.Module, batch: Batch, text: torch.Tensor | None = None) -> torch.Tensor:
        """() float32.

        Args:
            model: VideoCLIP, or its DDP wrapper.
            batch: `frames` (B, T, C, H, W) uint8, `label` (B,) int64 or (B, K) shares of the classes, `weight` (B,) 1,
                or 0 for a clip that fills an empty share and does not count.
            text: frozen class embeddings (K, D); None: the model makes its own.
        """
        raise NotImplementedError
