"""The antialiased resize of PyTorch's and Pillow's CPU code, bit for bit, as matrix products on any device.

Both go along the rows, then along the columns, each time with integer weights and a rounding to 8 bits: sums of a pixel
times a weight, plus half a unit, shifted to the right and clamped (aten/src/ATen/native/cpu/UpSampleKernel.cpp, and
Pillow's Resample.c, which the former follows). A product of matrices of such integers is exact as long as its sums are
below 2**24 in float32, 2**53 in float64, and then no kernel and no order of the sum changes a bit.

Legend: B clips, N images of each, H,W image, S output, L input length.
"""

from typing import NamedTuple

import torch

_MAX_INT16, _MAX_PRECISION = 2**15, 22  # PyTorch: weights of at most 15 bits; Pillow: always 22 bits after the point
_EXACT_SCALE = 1.25
"""Up to this shrinking, the sizes of PyTorch's weights add up to at most 1.26 * 2**15, and sums stay below 2**24."""


class Axis(NamedTuple):
    """How one side of an image is resized.

    Attributes:
        length: of the input that is used, `begin` its first pixel.
        resized: what `length` becomes.
        corner: first pixel of that which is kept.
        is_flipped: whether what is kept is mirrored.
    """

    begin: int
    length: int
    resized: int
    corner: int = 0
    is_flipped: bool = False


def resize(
    images: torch.Tensor, rows: list[Axis], columns: list[Axis], size: tuple[int, int], how: tuple[str, str]
) -> torch.Tensor:
    """(B,N,H,W) uint8 -> (B,N,*size) uint8, each of B by its own axes, or all by one.

    Args:
        rows, columns: the axes of H and W, B or one each.
        size: of the output; black where an axis keeps more than there is.
        how: interpolation, bilinear or bicubic, and whose arithmetic, torch or pillow.
    """
    with torch.autocast(images.device.type, enabled=False):
        along_rows = _pass(images, *_weights(columns, images.shape[-1], size[1], how, images.device))
        turned = along_rows.transpose(-1, -2).contiguous()
        return _pass(turned, *_weights(rows, images.shape[-2], size[0], how, images.device)).transpose(-1, -2)


def _pass(images: torch.Tensor, weights: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """(B,N,H,L) uint8 -> (B,N,H,S) uint8."""
    sums = torch.matmul(images.flatten(1, 2).to(weights.dtype), weights.transpose(1, 2))
    # Sums and division by a power of two are exact.
    return sums.add_(unit / 2).div_(unit).floor_().clamp_(0, 255).to(torch.uint8).unflatten(1, images.shape[1:3])


def _weights(
    axes: list[Axis], length: int, size: int, how: tuple[str, str], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Integer weights (B or 1,S,L) and the unit that they are multiples of 1 of, (B or 1,1,1).

    Those of PyTorch's `_compute_index_ranges_weights`, in float64, before they are rounded.
    """
    interpolation, arithmetic = how
    table = torch.tensor(axes, dtype=torch.float64).to(device, non_blocking=True)
    begin, used, resized, corner, is_flipped = table[:, :, None, None].unbind(1)  # (B,1,1) each
    scale = used / resized
    stretch = scale.clamp(min=1)
    support = stretch * {"bilinear": 1, "bicubic": 2}[interpolation]
    # All outputs (B,R,1), as the largest weight of all decides how they are rounded.
    outputs = torch.arange(max(axis.resized for axis in axes), dtype=torch.float64, device=device)[:, None]
    center = scale * (outputs + 0.5)
    inputs = torch.arange(length, dtype=torch.float64, device=device) - begin  # (B,1,L)
    first = (center - support + 0.5).floor().clamp(min=0)
    last = torch.minimum((center + support + 0.5).floor(), used)
    is_used = (inputs >= first) & (inputs < last) & (outputs < resized)
    values = _FILTERS[interpolation]((inputs - center + 0.5) / stretch) * is_used
    values /= values.sum(dim=-1, keepdim=True).where(outputs < resized, 1.0)
    if arithmetic == "pillow":
        precision = torch.full_like(scale, _MAX_PRECISION)
    else:
        # The first at which the largest weight, rounded at one bit more, needs over 15 bits.
        largest = values.amax(dim=(-1, -2), keepdim=True)
        precision = (((_MAX_INT16 - 0.5) / largest).log2().ceil() - 1).clamp(0, _MAX_PRECISION)
    unit = torch.exp2(precision)
    scaled = values * unit
    integers = torch.trunc(scaled + torch.where(scaled < 0, -0.5, 0.5))
    # What is kept of the outputs, in the order asked for; beyond them all weights are 0: black.
    kept = torch.arange(size, dtype=torch.float64, device=device)[:, None]
    kept = corner + torch.where(is_flipped > 0, size - 1 - kept, kept)  # (B,S,1)
    is_inside = (kept >= 0) & (kept < resized)
    places = kept.long().clamp(0, len(outputs) - 1).expand(-1, -1, length)
    integers = integers.gather(1, places) * is_inside
    is_short = arithmetic == "torch" and all(axis.length / axis.resized <= _EXACT_SCALE for axis in axes)
    # TF32, which a user may have chosen for float32 products, has too few bits.
    is_exact = is_short and torch.get_float32_matmul_precision() == "highest"
    dtype = torch.float32 if is_exact else torch.float64
    return integers.to(dtype), unit.to(dtype)


def _triangle(x: torch.Tensor) -> torch.Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: torch.Tensor) -> torch.Tensor:
    """Keys' cubic convolution with a = -0.5, as of PIL's BICUBIC."""
    x, a = x.abs(), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return near.where(x < 1, far.where(x < 2, 0.0))


_FILTERS = {"bilinear": _triangle, "bicubic": _cubic}


def axis_of(length: int, resized: int, size: int) -> Axis:
    """A whole side resized, in the middle of `size` pixels, black around it; one more after it where that is odd."""
    return Axis(0, length, resized, corner=-(max(0, size - resized) // 2))
