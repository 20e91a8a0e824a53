"""`drop_out`: attention dropout and stochastic depth, increasing from block to block."""

from timm.layers import DropPath

from modules.additions.addition import Addition
from modules.tower_blocks import ImageTower
from utils.schema import Config


class DropOut(Addition):
    """Block i of L has rate drop_out * i / (L - 1), as published."""

    setting = "network.drop_out"

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        for i, block in enumerate(tower.blocks):
            rate = cfg.network.drop_out * i / max(1, len(tower.blocks) - 1)
            block.set_attention_dropout(rate)
            block.drop_path = DropPath(rate)
