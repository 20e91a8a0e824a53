"""`data.erasing`: random erasing (arXiv 1708.04896, random values), the same rectangle in all frames."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from datasets.augmentations.augmentation import Augmentation
from utils.memory import to_device
from utils.schema import Config

ASPECT_RATIO = 0.3, 1 / 0.3  # of the rectangle, height / width (arXiv 1708.04896)
TRIES = 10


@dataclass(frozen=True, eq=False)  # compared by identity: arrays have no hash, and no two rectangles are equal
class Erased:
    """A rectangle of noise at `top`, `left`: uint8 (C,h,w)."""

    top: int
    left: int
    noise: np.ndarray


@dataclass(frozen=True)
class Erasing(Augmentation):
    """A rectangle whose area is uniform in `area_range`, as shares of the frame, and the logarithm of its aspect ratio
    uniform; none if ten attempts do not fit."""

    prob: float
    area_range: tuple[float, float]

    @classmethod
    def of(cls, cfg: Config) -> "Erasing | None":
        erasing = cfg.data.erasing
        return cls(erasing.prob, (erasing.area_range[0], erasing.area_range[1])) if erasing.prob > 0 else None

    def draw(self, size: int, rng: np.random.Generator) -> list[Erased]:
        if rng.random() >= self.prob:
            return []
        for _ in range(TRIES):
            area = rng.uniform(*self.area_range) * size * size
            ratio = math.exp(rng.uniform(math.log(ASPECT_RATIO[0]), math.log(ASPECT_RATIO[1])))
            height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < height < size and 0 < width < size:
                top = int(rng.integers(size - height + 1))
                left = int(rng.integers(size - width + 1))
                return [Erased(top, left, rng.integers(0, 256, (3, height, width), dtype=np.uint8))]
        return []

    def apply(self, frames: torch.Tensor, drawn: Erased) -> torch.Tensor:
        height, width = drawn.noise.shape[1:]
        noise = to_device(torch.from_numpy(drawn.noise), frames.device)
        frames = frames.clone()  # may be a view of the decoded frames
        frames[..., drawn.top : drawn.top + height, drawn.left : drawn.left + width] = noise
        return frames
