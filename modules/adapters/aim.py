"""`adapter: aim` (AIM, arXiv 2302.03024): frozen attention is applied a second time, over time; adapters after both
attentions and beside the MLP.

Shapes: B clips, T frames, N = B T images, L tokens, C width.
"""

from functools import partial

import torch
from timm.layers import DropPath
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from modules.adapters.adapter import Adapter
from modules.frame_positions import fit_frames
from modules.recomputation import recomputed
from modules.tower_blocks import ImageTower, TowerBlock
from utils.config_fields import Section, key
from utils.errors import UserError
from utils.schema import Config

DOWN_STD = 0.02  # as published


class Bottleneck(nn.Module):
    """Down, GELU, up; the up projection starts at zero. (..., C) -> same."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.trunc_normal_(self.down.weight, std=DOWN_STD)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = recomputed(self.down(x), self.down, x)
        return self.up(recomputed(F.gelu(hidden), F.gelu, hidden))


class BlockAdapters(nn.Module):
    """The adapters of one block.

    Args:
        scale: factor of the adapter beside the MLP.
        two_temporal: whether there is another adapter before the attention over time.
        drop_path: rate of stochastic depth of the attention over time and of the adapter beside the MLP.
    """

    num_frames = 1

    def __init__(self, width: int, hidden: int, scale: float, two_temporal: bool, drop_path: float):
        super().__init__()
        self.scale = scale
        self.temporal_in = Bottleneck(width, hidden) if two_temporal else None
        self.temporal = Bottleneck(width, hidden)
        self.spatial = Bottleneck(width, hidden)
        self.mlp = Bottleneck(width, hidden)
        self.drop_path = DropPath(drop_path)

    def over_time(self, block: TowerBlock, x: torch.Tensor) -> torch.Tensor:
        """Add the block's attention over the T frames of each token, followed by an adapter, to the stream (N, L,
        C)."""
        if block.recomputes_now:  # the two attention passes would save more than full fine-tuning does
            branch = checkpoint(self._attend_over_time, block, x, use_reentrant=False)
        else:
            branch = self._attend_over_time(block, x)
        return x + block.drop_path(self.drop_path(branch))

    def _attend_over_time(self, block: TowerBlock, x: torch.Tensor) -> torch.Tensor:
        z = block.attention_input(x).unflatten(0, (-1, self.num_frames)).transpose(1, 2)  # (B, L, T, C)
        z = z.flatten(0, 1)
        if self.temporal_in is not None:
            z = z + self.temporal_in(z)
        return self.temporal(block.attend(z, {})).unflatten(0, (-1, x.shape[1])).transpose(1, 2).flatten(0, 1)

    def after_attention(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.spatial(x)

    def beside_mlp(self, z: torch.Tensor) -> torch.Tensor:
        return self.drop_path(self.scale * self.mlp(z))


class TimeEmbedding(nn.Module):
    """A (T, C) embedding, initialised with zeros, added to all tokens of a frame."""

    num_frames = 1

    def __init__(self, num_frames: int, width: int):
        super().__init__()
        self.time_embedding = nn.Parameter(torch.zeros(num_frames, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, L, C) -> same.

        Raises:
            UserError: the clips and the embedding have different numbers of frames.
        """
        if self.num_frames != len(self.time_embedding):
            raise UserError(
                f"network.adapter: aim: the time embedding has {len(self.time_embedding)} frames, but the clips have "
                f"{self.num_frames}; set data.num_segments x data.seg_length to this number to interpolate it"
            )
        time = self.time_embedding.to(x.dtype)[:, None]
        return (x.unflatten(0, (-1, self.num_frames)) + time).flatten(0, 1)


class Aim(Adapter):
    class Settings(Section):
        ratio: float = key(0.25, "width of the bottlenecks", "share of the tower's width", gt=0)
        mlp_scale: float = key(0.5, "factor of the adapter beside the MLP; 0.7 is published for SSv2", "")
        two_temporal: bool = key(False, "another adapter before the attention over time")
        drop_path: float = key(
            0.0,
            "stochastic depth of attention over time and adapter beside the MLP, up to this in the last block",
            ge=0,
            lt=1,
        )

    setting = "network.adapter: aim"
    # The tower's last norm, as in the published code.
    tunes = r"^visual\.(ln_post|trunk\.(fc_)?norm)\."
    new_parameters = r"^visual\.(.*\.)?aim\."
    excludes = ("patch_dropout", "joint_st")

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        own = cls.settings(cfg)
        tower.visual.aim = TimeEmbedding(cfg.data.num_frames, tower.width)
        tower.before_norm_pre(tower.visual.aim)
        hidden = max(1, int(tower.width * own.ratio))
        for i, block in enumerate(tower.blocks):
            rate = own.drop_path * i / max(1, len(tower.blocks) - 1)
            block.aim = BlockAdapters(tower.width, hidden, own.mlp_scale, own.two_temporal, rate)
            block.before_attention.append(partial(block.aim.over_time, block))
            block.after_attention.append(block.aim.after_attention)
            block.beside_mlp.append(block.aim.beside_mlp)
        cls.recompute(tower, cfg)

    @classmethod
    def fit(cls, state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> list[str]:
        return fit_frames(state, expected, "visual.aim.time_embedding", "time embedding of adapter aim")
