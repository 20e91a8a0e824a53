"""Augmentations of a training clip: uint8 (T,C,S,S) in and out, one draw for all of its frames."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torchvision.transforms import v2

from utils.schema import ColorJitterConfig, ErasingConfig

ASPECT_RATIO = 0.3, 1 / 0.3  # of an erased rectangle, height to width (arXiv 1708.04896)
ERASING_TRIES = 10


def apply_seeded(
    transform: Callable[[torch.Tensor], torch.Tensor], frames: torch.Tensor, rng: np.random.Generator
) -> torch.Tensor:
    """A transform of torchvision's on the whole clip; torch's global generator is seeded from `rng`, then put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        return transform(frames)


def jitter_colors(frames: torch.Tensor, jitter: ColorJitterConfig, rng: np.random.Generator) -> torch.Tensor:
    """torchvision's ColorJitter: brightness, contrast, saturation and hue, in random order."""
    return apply_seeded(v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue), frames, rng)


def erase(frames: torch.Tensor, erasing: ErasingConfig, rng: np.random.Generator) -> torch.Tensor:
    """Random erasing (arXiv 1708.04896, random values): one rectangle of one noise in all frames.

    Area uniform in `erasing.area_range` of the frame, the logarithm of height to width uniform; as it was where ten
    tries do not fit.
    """
    height, width = frames.shape[-2:]
    for _ in range(ERASING_TRIES):
        area = rng.uniform(erasing.area_range[0], erasing.area_range[1]) * height * width
        ratio = math.exp(rng.uniform(math.log(ASPECT_RATIO[0]), math.log(ASPECT_RATIO[1])))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < h < height and 0 < w < width:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            noise = torch.from_numpy(rng.integers(0, 256, (frames.shape[-3], h, w), dtype=np.uint8))
            frames = frames.clone()  # it may be a view of the frames that were read
            frames[..., top : top + h, left : left + w] = noise
            return frames
    return frames
