"""`tm: tokenshift` (arXiv 2108.02432): shifts quarters of the class token's channels between frames."""

import torch
from torch import nn

from modules.additions.addition import Addition
from modules.additions.shift import shift_frames
from modules.tower_blocks import ImageTower
from utils.schema import Config


class TokenShift(nn.Module):
    """Shifts the class token; patches are unchanged. (N, L, C) -> same."""

    num_frames = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([shift_frames(x[:, 0], self.num_frames, 4)[:, None], x[:, 1:]], dim=1)


class ClassTokenShift(Addition):
    setting = "network.tm: tokenshift"
    needs_class_token = True

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        for block in tower.blocks:
            block.over_time = TokenShift()
            block.before_attention.append(block.over_time)
            block.before_mlp.append(block.over_time)
