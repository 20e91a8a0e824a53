"""Base class of adapters for parameter-efficient tuning of the image tower."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from modules.adapters import ADAPTERS
from modules.additions.addition import Addition
from modules.tower_blocks import ImageTower
from utils.schema import Config


class Adapter(Addition):
    """An addition that freezes CLIP's parameters, except those that it tunes.

    Added parameters are trained at the full learning rate, the tuned ones of CLIP at `solver.clip_ratio` times that
    rate.
    """

    table = ADAPTERS
    tunes: ClassVar[str | None] = None  # regex of the CLIP parameters to train, by their names in VideoCLIP
    # Regex of parameters that are factors of others, and are not interpolated with them.
    factors: ClassVar[str | None] = None

    @staticmethod
    def recompute(tower: ImageTower, cfg: Config) -> None:
        """Save fewer activations for the backward pass (TowerBlock.recompute). Call it at the end of `add`."""
        if cfg.solver.recompute and not cfg.solver.activation_checkpointing:  # which recomputes whole blocks
            for block in tower.blocks:
                block.recompute()

    @classmethod
    def merge(cls, visual: nn.Module) -> None:
        """Merge the adapter into CLIP's weights where possible, so that inference has no extra cost."""

    @classmethod
    def average(
        cls, states: Sequence[dict[str, torch.Tensor]], settings: dict[str, Any]
    ) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors of an averaged model for which the elementwise mean is wrong, and its `components.NAME`.

        Args:
            states: tensors of checkpoints under VideoCLIP's names. settings: their `components.NAME`.
        """
        return {}, settings
