"""`adapter: st_adapter`: bottlenecks with a convolution over time, on the patches (ST-Adapter, arXiv 2206.13559).

Shapes: B clips, T frames, N = B T images, L tokens, P = H W patches, C width, A width of the adapter.
"""

from typing import Literal

import torch
from torch import nn

from modules.adapters.adapter import Adapter
from modules.tower_blocks import ImageTower
from utils.config_fields import Section, key
from utils.errors import UserError
from utils.schema import Config

Place = Literal["before_attn", "before_mlp"]


class SpatioTemporalAdapter(nn.Module):
    """Adds to each patch: down to A, a depthwise convolution over (T, H, W), up to C; no activation.

    It starts by adding nothing: the convolution and the biases are zero.

    Args:
        patches, grid: of the tower (modules.tower_blocks.ImageTower).
        kernel: odd numbers over (T, H, W).
    """

    num_frames = 1

    def __init__(self, tower: ImageTower, width: int, kernel: list[int]):
        super().__init__()
        self.patches, self.grid = tower.patches, tower.grid
        self.down = nn.Linear(tower.width, width)
        time, rows, columns = kernel
        padding = (time // 2, rows // 2, columns // 2)
        self.conv = nn.Conv3d(width, width, (time, rows, columns), padding=padding, groups=width)
        self.up = nn.Linear(width, tower.width)
        nn.init.zeros_(self.conv.weight)
        for layer in (self.conv, self.down, self.up):
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The stream (N, L, C) -> same."""
        patches = x[:, self.patches]
        hidden = self.down(patches).unflatten(0, (-1, self.num_frames)).unflatten(2, self.grid)  # (B, T, H, W, A)
        hidden = self.conv(hidden.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        added = self.up(hidden.flatten(0, 1).flatten(1, 2))  # (N, P, C)
        return torch.cat([x[:, : self.patches.start], patches + added, x[:, self.patches.stop :]], dim=1)


class StAdapter(Adapter):
    """The defaults are the published ones: 384 wide, in both places of all blocks ("24x" in a ViT-B)."""

    class Settings(Section):
        width: int = key(384, "A, width of the bottleneck", "channels", ge=1)
        kernel: list[int] = key(lambda: [3, 1, 1], "of the convolution over frames, rows, columns", "odd numbers")
        places: list[Place] = key(lambda: ["before_attn", "before_mlp"], "of an adapter in a block", min_length=1)
        last: int | None = key(None, "only in so many blocks, from the last; null: in all", "blocks", ge=1)

    setting = "network.adapter: st_adapter"
    new_parameters = r"^visual\..*\.st_adapter\."
    excludes = ("patch_dropout", "joint_st")

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        own = cls.settings(cfg)
        if len(own.kernel) != 3 or any(size < 1 or size % 2 == 0 for size in own.kernel):
            raise UserError(f"components.st_adapter.kernel: must be three odd numbers, as [3, 1, 1], not {own.kernel}")
        first = 0 if own.last is None else max(0, len(tower.blocks) - own.last)
        for block in tower.blocks[first:]:
            block.st_adapter = nn.ModuleDict()
            for place, changes in (("before_attn", block.before_attention), ("before_mlp", block.before_mlp)):
                if place in own.places:
                    block.st_adapter[place] = SpatioTemporalAdapter(tower, own.width, own.kernel)
                    changes.append(block.st_adapter[place])
