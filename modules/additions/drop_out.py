"""`drop_out`: attention dropout and stochastic depth, which grow from block to block."""

import torch
from torch import nn

from modules.additions.addition import Addition
from modules.tower_blocks import ImageTower
from utils.schema import Config


class StochasticDepth(nn.Module):
    """Drops a residual branch of a whole sample with probability `rate`, in training; survivors are scaled up."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return branch
        keep = branch.new_empty(branch.shape[0], *[1] * (branch.ndim - 1)).bernoulli_(1 - self.rate)
        return branch * (keep / (1 - self.rate))


class DropOut(Addition):
    """Block i of L gets drop_out * i / (L - 1), as published."""

    setting = "network.drop_out"

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        for i, block in enumerate(tower.blocks):
            rate = cfg.network.drop_out * i / max(1, len(tower.blocks) - 1)
            block.set_attention_dropout(rate)
            block.drop_path = StochasticDepth(rate)
