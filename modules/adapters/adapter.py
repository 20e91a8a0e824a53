"""Base class of adapters for parameter-efficient tuning of the image tower."""

from typing import ClassVar

from torch import nn

from modules.adapters import ADAPTERS
from modules.additions.addition import Addition
from modules.tower_blocks import ImageTower
from utils.schema import Config


class Adapter(Addition):
    """An addition that freezes CLIP's parameters, except those that it tunes.

    What it adds trains at the full learning rate; CLIP's own parameters that train do so at `solver.clip_ratio` of it.
    """

    table = ADAPTERS
    tunes: ClassVar[str | None] = None  # pattern of the names, in VideoCLIP, of CLIP's own parameters that train

    @staticmethod
    def recompute(tower: ImageTower, cfg: Config) -> None:
        """To be called at the end of `add`: blocks keep less for the backward pass (TowerBlock.recompute)."""
        if not cfg.solver.activation_checkpointing:  # which computes whole blocks again
            for block in tower.blocks:
                block.recompute()

    @classmethod
    def merge(cls, visual: nn.Module) -> None:
        """Merge the adapter into CLIP's weights where possible, so that inference has no extra cost."""
