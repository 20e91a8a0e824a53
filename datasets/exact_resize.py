"""Antialiased resize on any device by matrix products, bit-identical to the CPU code of PyTorch and Pillow.

Both resize rows and then columns, with integer weights and rounding to 8 bits: sums of pixels times weights plus half a
unit, shifted right and clamped (aten/src/ATen/native/cpu/UpSampleKernel.cpp, which follows Pillow's Resample.c).
Matrix products of such integers are exact in float32 if sums are below 2**24, for any kernel and order of summation.
Larger weights are split into a high and a low part, with a product each: a GPU may be 64 times slower in float64.

Legend: B clips, T frames, C channels, H,W image, S output, L input length.
"""

from typing import NamedTuple

import torch

from utils.memory import to_device

_MAX_INT16, _MAX_PRECISION = 2**15, 22  # PyTorch: weights of at most 15 bits; Pillow: always 22 bits after the point
_EXACT_SCALE = 1.25
"""Up to this shrinking, the sizes of PyTorch's weights add up to at most 1.26 * 2**15, and sums stay below 2**24."""
_LOW = 2**7
"""High parts of weights are multiples of it. Their sizes add up to at most 1.26 * 2**22 / 2**7, those of the low parts
to 2**6 per pixel: the sums of both stay below 2**24 (of up to 770 pixels, that is at 190 times the output's size)."""


class Axis(NamedTuple):
    """How one axis of an image is resized.

    Attributes:
        length: number of input pixels that are used, from pixel `begin`.
        resized: output size of these.
        corner: first output pixel of the crop.
        is_flipped: whether the crop is mirrored.
    """

    begin: int
    length: int
    resized: int
    corner: int = 0
    is_flipped: bool = False


def resize(
    images: torch.Tensor,
    rows: list[Axis],
    columns: list[Axis],
    size: tuple[int, int],
    interpolation: str,
    resizer: str,
) -> torch.Tensor:
    """(B,T,C,H,W) uint8 -> (B,T,C,*size) uint8 over channels-last memory, with own axes for each of B, or the same.

    Args:
        images: in any layout of memory.
        rows, columns: the axes of H and W, B or one each.
        size: output size; black where an axis exceeds the image.
        interpolation, resizer: as in `datasets.transforms.Resize`.
    """
    clips, frames, channels, height, width = images.shape
    across = _weights(columns, width, size[1], interpolation, resizer, images.device)
    down = _weights(rows, height, size[0], interpolation, resizer, images.device)
    with torch.autocast(images.device.type, enabled=False):
        # (B,H,T,C,W): each pass is one product per clip, and frames are only copied when they change type.
        levels = images.permute(0, 3, 1, 2, 4).to(across[0].dtype, memory_format=torch.contiguous_format).flatten(1, 3)
        levels = _rounded([torch.matmul(levels, part.transpose(1, 2)) for part in across])  # (B,H*T*C,size[1])
        levels = levels.view(clips, height, -1)
        levels = _rounded([torch.matmul(part, levels) for part in down])  # (B,size[0],T*C*size[1])
    levels = levels.view(clips, size[0], frames, channels, size[1]).permute(0, 2, 1, 4, 3)
    return levels.to(torch.uint8, memory_format=torch.contiguous_format).movedim(-1, -3)


def _rounded(sums: list[torch.Tensor]) -> torch.Tensor:
    """Sum, rounded half up and clamped to 0..255, in place in the first tensor."""
    nearest, *low = sums
    nearest.add_(0.5)
    for part in low:  # beside the fraction alone, which leaves it enough bits
        whole = nearest.floor()
        nearest.sub_(whole).add_(part).floor_().add_(whole)
    return nearest.clamp_(0, 255).floor_()


def _weights(
    axes: list[Axis], length: int, size: int, interpolation: str, resizer: str, device: torch.device
) -> list[torch.Tensor]:
    """Integer weights (B or 1,S,L), divided by the power of two that is their unit, which changes no bit of their sums;
    one part, or a high and a low one.

    As in PyTorch's `_compute_index_ranges_weights`, in float64 before rounding.
    """
    table = to_device(torch.tensor(axes, dtype=torch.float64), device)
    begin, used, resized, corner, is_flipped = table[:, :, None, None].unbind(1)  # (B,1,1) each
    scale = used / resized
    stretch = scale.clamp(min=1)
    support = stretch * {"bilinear": 1, "bicubic": 2}[interpolation]
    # All outputs (B,R,1), because rounding depends on the largest weight.
    outputs = torch.arange(max(axis.resized for axis in axes), dtype=torch.float64, device=device)[:, None]
    center = scale * (outputs + 0.5)
    inputs = torch.arange(length, dtype=torch.float64, device=device) - begin  # (B,1,L)
    first = (center - support + 0.5).floor().clamp(min=0)
    last = torch.minimum((center + support + 0.5).floor(), used)
    is_used = (inputs >= first) & (inputs < last) & (outputs < resized)
    values = _FILTERS[interpolation]((inputs - center + 0.5) / stretch) * is_used
    values /= values.sum(dim=-1, keepdim=True).where(outputs < resized, 1.0)
    # Powers from Python, because log2 and exp2 on a GPU may be inexact.
    units = to_device(torch.tensor([2.0**bits for bits in range(_MAX_PRECISION + 1)], dtype=torch.float64), device)
    unit = units[-1]
    if resizer == "torch":  # the largest unit in which the largest weight has at most 15 bits
        largest = values.amax(dim=(-1, -2), keepdim=True)
        unit = units.where(largest * units < _MAX_INT16 - 0.5, 1.0).amax(dim=-1, keepdim=True)
    scaled = values * unit
    integers = torch.trunc(scaled + torch.where(scaled < 0, -0.5, 0.5))
    # The cropped outputs, mirrored if requested; outside of the image all weights are 0 (black).
    kept = torch.arange(size, dtype=torch.float64, device=device)[:, None]
    kept = corner + torch.where(is_flipped > 0, size - 1 - kept, kept)  # (B,S,1)
    is_inside = (kept >= 0) & (kept < resized)
    places = kept.long().clamp(0, len(outputs) - 1).expand(-1, -1, length)
    integers = integers.gather(1, places) * is_inside
    if torch.get_float32_matmul_precision() != "highest":
        return [integers / unit]  # in float64: TF32 has too few bits
    if resizer == "torch" and all(axis.length / axis.resized <= _EXACT_SCALE for axis in axes):
        return [(integers / unit).float()]
    high = _LOW * (integers / _LOW).round()
    return [(part / unit).float() for part in (high, integers - high)]


def _triangle(x: torch.Tensor) -> torch.Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: torch.Tensor) -> torch.Tensor:
    """Keys' cubic convolution with a = -0.5, as Pillow's BICUBIC."""
    x, a = x.abs(), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return near.where(x < 1, far.where(x < 2, 0.0))


_FILTERS = {"bilinear": _triangle, "bicubic": _cubic}


def axis_of(length: int, resized: int, size: int) -> Axis:
    """Resize a whole side and centre it in `size` pixels, padded with black; the extra pixel of an odd padding is
    last."""
    return Axis(0, length, resized, corner=-(max(0, size - resized) // 2))
