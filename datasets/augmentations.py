"""Augmentations of training clips: random parameters shared by all frames, applied to uint8 frames on any device.

Legend: T frames, C=3 channels, S input size.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from utils.data_sections import ColorJitterConfig, ErasingConfig
from utils.memory import to_device

ASPECT_RATIO = 0.3, 1 / 0.3  # of the erased rectangle, height / width (arXiv 1708.04896)
ERASING_TRIES = 10
RANDAUG_MAX_MAGNITUDE = 30
"""Number of magnitude bins, torchvision's default."""
GREYSCALE = "greyscale"
GEOMETRIC = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}
"""Geometric operations of RandAugment."""

Operation = tuple[str, float]
"""Name and value: an operation of RandAugment (torchvision's name) and its magnitude, a property of _JITTER and its
factor, or GREYSCALE and 1."""
_JITTER = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}


class _DrawsOnly(v2.RandAugment):
    """torchvision's RandAugment that records the operations instead of applying them."""

    def __init__(self, *args: int, **kwargs: int):
        super().__init__(*args, **kwargs)
        self.drawn: list[Operation] = []

    def _apply_image_or_video_transform(self, image: Any, transform_id: str, magnitude: float, *_: Any, **__: Any):
        self.drawn.append((transform_id, magnitude))
        return image


_RANDAUG = v2.RandAugment()


@contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    """Seed PyTorch's global generator from `rng` within the block, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        yield


def draw_randaug(num_operations: int, magnitude: int, size: int, rng: np.random.Generator) -> list[Operation]:
    """Draw the operations of torchvision's RandAugment for frames of size x size."""
    randaug = _DrawsOnly(num_operations, magnitude, num_magnitude_bins=RANDAUG_MAX_MAGNITUDE + 1)
    with _seeded(rng):
        randaug(torch.empty((3, size, size), dtype=torch.uint8))
    return randaug.drawn


def draw_jitter(jitter: ColorJitterConfig, rng: np.random.Generator) -> list[Operation]:
    """Draw the operations of torchvision's ColorJitter: brightness, contrast, saturation and hue, in random order."""
    with _seeded(rng):
        drawn = v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue).make_params([])
    names = list(_JITTER)
    factors = {name: drawn[f"{name}_factor"] for name in names}
    order = [names[position] for position in drawn["fn_idx"].tolist()]
    return [(name, factors[name]) for name in order if factors[name] is not None]


def apply_operation(frames: torch.Tensor, operation: Operation) -> torch.Tensor:
    """Apply an operation of RandAugment or colour jitter to (...,C,S,S) uint8 with torchvision."""
    name, value = operation
    if name in _JITTER:
        return _JITTER[name](frames, value)
    changed = _RANDAUG._apply_image_or_video_transform(frames, name, value, _RANDAUG.interpolation, _RANDAUG._fill)
    assert isinstance(changed, torch.Tensor)
    return changed


class Erased(NamedTuple):
    """A rectangle of noise at `top`, `left`: uint8 (C,h,w)."""

    top: int
    left: int
    noise: np.ndarray

    def apply(self, frames: torch.Tensor) -> torch.Tensor:
        """Erase the rectangle in (T,C,S,S) uint8 frames, in place."""
        height, width = self.noise.shape[1:]
        noise = to_device(torch.from_numpy(self.noise), frames.device)
        frames[..., self.top : self.top + height, self.left : self.left + width] = noise
        return frames


def draw_erased(erasing: ErasingConfig, size: int, rng: np.random.Generator) -> Erased | None:
    """Random erasing (arXiv 1708.04896, random values) of frames of size x size, the same in all of them.

    The area is uniform in `erasing.area_range` of the frame, the logarithm of the aspect ratio uniform; None if ten
    attempts do not fit.
    """
    for _ in range(ERASING_TRIES):
        area = rng.uniform(erasing.area_range[0], erasing.area_range[1]) * size * size
        ratio = math.exp(rng.uniform(math.log(ASPECT_RATIO[0]), math.log(ASPECT_RATIO[1])))
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < height < size and 0 < width < size:
            top = int(rng.integers(size - height + 1))
            left = int(rng.integers(size - width + 1))
            return Erased(top, left, rng.integers(0, 256, (3, height, width), dtype=np.uint8))
    return None
