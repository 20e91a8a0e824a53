"""`adapter: st_adapter`: bottlenecks with a convolution over time, on the patches (ST-Adapter, arXiv 2206.13559).

Shapes: B clips, T frames, N = B T images, L tokens, P = H W patches, C width, A width of the adapter.
"""

from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from modules.adapters.adapter import Adapter
from modules.recomputation import recomputed
from modules.tower_blocks import ImageTower
from utils.config_fields import Section, key
from utils.errors import UserError
from utils.schema import Config

Place = Literal["before_attn", "before_mlp"]


class _OverTime(torch.autograd.Function):
    """Depthwise convolution over the frames of x (B, T, P, A) with kernel (K, A) and bias (A,).

    Implemented as shifted multiplications, because cuDNN's weight gradient of nn.Conv3d takes ten times as long as the
    rest of a training step.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, taps: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, taps)
        return _shifted_sum(x, taps, bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, taps = ctx.saved_tensors
        d_x = _shifted_sum(gradient, taps.flip(0), gradient.new_zeros(()))
        d_taps = [
            (gradient[:, here] * x[:, there]).sum(dim=(0, 1, 2)) for here, there in _shifts(len(taps), x.shape[1])
        ]
        return d_x, torch.stack(d_taps), gradient.sum(dim=(0, 1, 2))


def _shifted_sum(x: torch.Tensor, taps: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    middle = len(taps) // 2
    out = torch.addcmul(bias, x, taps[middle])
    for tap, (here, there) in enumerate(_shifts(len(taps), x.shape[1])):
        if tap != middle:
            out[:, here].addcmul_(x[:, there], taps[tap])
    return out


def _shifts(num_taps: int, num_frames: int) -> list[tuple[slice, slice]]:
    """For each tap of the kernel, the output frames and the input frames."""
    offsets = [min(max(tap - num_taps // 2, -num_frames), num_frames) for tap in range(num_taps)]
    return [(slice(max(0, -by), num_frames - max(0, by)), slice(max(0, by), num_frames + min(0, by))) for by in offsets]


class SpatioTemporalAdapter(nn.Module):
    """Adds to each patch: down-projection to A, depthwise convolution over (T, H, W), up-projection to C; no
    activation.

    The identity at initialisation, because convolution and biases are zero.

    Args:
        patches, grid: see modules.tower_blocks.ImageTower.
        kernel: odd sizes over (T, H, W).
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
        hidden = self.down(x)[:, self.patches]  # projected before slicing, because a copy of the stream costs more
        hidden = hidden.unflatten(0, (-1, self.num_frames))  # (B, T, P, A)
        convolved = recomputed(self._convolve(hidden), self._convolve, hidden)
        return recomputed(self._added(x, convolved), self._added, x, convolved)

    def _added(self, x: torch.Tensor, convolved: torch.Tensor) -> torch.Tensor:
        added = self.up(convolved.flatten(0, 1))  # (N, P, C)
        return x + F.pad(added, (0, 0, self.patches.start, x.shape[1] - self.patches.stop))

    def _convolve(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, T, P, A) -> same."""
        if self.conv.kernel_size[1:] == (1, 1):
            taps, bias = self.conv.weight.flatten(1).T, self.conv.bias
            assert bias is not None
            return _OverTime.apply(hidden, taps.to(hidden.dtype), bias.to(hidden.dtype))
        hidden = hidden.unflatten(2, self.grid).permute(0, 4, 1, 2, 3)  # (B, A, T, H, W)
        return self.conv(hidden).permute(0, 2, 3, 4, 1).flatten(2, 3)


class StAdapter(Adapter):
    """The defaults are the published ones: width 384, at both positions of all blocks ("24x" in a ViT-B)."""

    class Settings(Section):
        width: int = key(384, "A, width of the bottleneck", "channels", ge=1)
        kernel: list[int] = key(lambda: [3, 1, 1], "kernel size over frames, rows and columns", "odd numbers")
        places: list[Place] = key(
            lambda: ["before_attn", "before_mlp"], "positions of adapters in a block", min_length=1
        )
        last: int | None = key(None, "number of last blocks with adapters; null: all", "blocks", ge=1)

    setting = "network.adapter: st_adapter"
    new_parameters = r"^visual\..*\.st_adapter\."
    excludes = ("patch_dropout", "joint_st")

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        own = cls.settings(cfg)
        if len(own.kernel) != 3 or any(size < 1 or size % 2 == 0 for size in own.kernel):
            raise UserError(
                f"components.st_adapter.kernel: must be three odd numbers, such as [3, 1, 1], not {own.kernel}"
            )
        first = 0 if own.last is None else max(0, len(tower.blocks) - own.last)
        for block in tower.blocks[first:]:
            block.st_adapter = nn.ModuleDict()
            for place, changes in (("before_attn", block.before_attention), ("before_mlp", block.before_mlp)):
                if place in own.places:
                    block.st_adapter[place] = SpatioTemporalAdapter(tower, own.width, own.kernel)
                    changes.append(block.st_adapter[place])
        cls.recompute(tower, cfg)
