"""`tm: tokenshift` (arXiv 2108.02432): quarters of the class token's channels move between frames."""

import torch
from torch import nn

from modules.additions.addition import Addition
from modules.additions.shift import shift_frames
from modules.additions.video_block import video_blocks
from utils.schema import Config


class TokenShift(nn.Module):
    """The class token shifts; the patches stay. (N, L, C) -> same."""

    num_frames = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([shift_frames(x[:, 0], self.num_frames, 4)[:, None], x[:, 1:]], dim=1)


class ClassTokenShift(Addition):
    setting = "network.tm: tokenshift"

    @classmethod
    def add(cls, visual: nn.Module, cfg: Config) -> nn.Module:
        for block in video_blocks(visual):
            block.over_time, block.before_mlp = TokenShift(), True
        return visual
