"""`tm: tokent1d`: a depthwise convolution of the class token over time in each block, applied twice."""

import torch
from torch import nn
from torch.nn import functional as F

from modules.additions.addition import Addition
from modules.tower_blocks import ImageTower
from utils.schema import Config


class TokenConv(nn.Module):
    """Kernel size 3, without bias, on the class token, (N, L, C) -> same; initialised as token shift."""

    num_frames = 1

    def __init__(self, width: int):
        super().__init__()
        # Taps on the previous, current and next frame for each channel.
        weight = torch.zeros(width, 1, 3)
        weight[: width // 4, 0, 2] = 1
        weight[width // 4 : 2 * (width // 4), 0, 0] = 1
        weight[2 * (width // 4) :, 0, 1] = 1
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        token = x[:, 0].unflatten(0, (-1, self.num_frames)).transpose(1, 2)  # (B, C, T)
        token = F.conv1d(token, self.weight, padding=1, groups=token.shape[1])
        return torch.cat([token.transpose(1, 2).reshape(-1, 1, x.shape[2]), x[:, 1:]], dim=1)


class ClassTokenConvolution(Addition):
    setting = "network.tm: tokent1d"
    needs_class_token = True
    new_parameters = r"^visual\.(transformer\.resblocks|trunk\.blocks)\.\d+\.over_time\.weight$"
    published_names = (
        (r"^(visual\.transformer\.resblocks\.\d+)\.control_point\.conv\.weight$", r"\1.over_time.weight"),
    )

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        for block in tower.blocks:
            block.over_time = TokenConv(tower.width)
            block.before_attention.append(block.over_time)
            block.before_mlp.append(block.over_time)
