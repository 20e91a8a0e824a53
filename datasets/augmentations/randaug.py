"""`data.randaug`: torchvision's RandAugment."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torchvision.transforms import v2

from datasets.augmentations.augmentation import Augmentation, seeded
from utils.schema import Config

MAX_MAGNITUDE = 30
"""Number of magnitude bins, torchvision's default."""
_GEOMETRIC = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}
_RANDAUG = v2.RandAugment()

Drawn = tuple[str, float]
"""torchvision's name of an operation, and its magnitude."""


class _DrawsOnly(v2.RandAugment):
    """torchvision's RandAugment that records the operations instead of applying them."""

    def __init__(self, *args: int, **kwargs: int):
        super().__init__(*args, **kwargs)
        self.drawn: list[Drawn] = []

    def _apply_image_or_video_transform(self, image: Any, transform_id: str, magnitude: float, *_: Any, **__: Any):
        self.drawn.append((transform_id, magnitude))
        return image


@dataclass(frozen=True)
class RandAug(Augmentation):
    """`num_operations` operations with `magnitude` in 0..30."""

    num_operations: int
    magnitude: int

    @classmethod
    def of(cls, cfg: Config) -> "RandAug | None":
        randaug = cfg.data.randaug
        return cls(randaug.N, randaug.M) if randaug.N > 0 else None

    def draw(self, size: int, rng: np.random.Generator) -> list[Drawn]:
        randaug = _DrawsOnly(self.num_operations, self.magnitude, num_magnitude_bins=MAX_MAGNITUDE + 1)
        with seeded(rng):
            randaug(torch.empty((3, size, size), dtype=torch.uint8))
        return randaug.drawn

    def apply(self, frames: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        return _changed(frames, drawn)

    def apply_on_device(self, clips: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        name, magnitude = drawn
        if name in _GEOMETRIC:
            black_first = torch.nn.functional.pad(clips.flatten(-2), (1, 0))
            return black_first.index_select(-1, _sources(drawn, clips.shape[-1], clips.device)).view(clips.shape)
        if name == "Sharpness":
            return _sharpened(clips, 1 + magnitude)
        return _changed(clips, drawn)


def _changed(frames: torch.Tensor, drawn: Drawn) -> torch.Tensor:
    changed = _RANDAUG._apply_image_or_video_transform(frames, *drawn, _RANDAUG.interpolation, _RANDAUG._fill)
    assert isinstance(changed, torch.Tensor)
    return changed


def _sharpened(frames: torch.Tensor, factor: float) -> torch.Tensor:
    """torchvision's adjust_sharpness of (...,H,W) uint8, computed exactly; cuDNN may round its convolution to TF32."""
    changed = frames.float()
    inner = changed[..., 1:-1, 1:-1]
    columns = changed[..., :-2] + changed[..., 1:-1] + changed[..., 2:]
    around = columns[..., :-2, :] + columns[..., 1:-1, :] + columns[..., 2:, :]
    blurred = ((around + 4 * inner) / 13).round_()
    inner.add_(blurred.sub_(inner), alpha=1 - factor)
    return changed.clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=32)
def _sources(drawn: Drawn, size: int, device: torch.device) -> torch.Tensor:
    """int64 (S*S,) on `device`: 1 + index of the source pixel of each output pixel, row by row; 0: none.

    Computed by torchvision on the CPU, because the choice between two equally near pixels depends on the last bit.
    """
    pixels = torch.arange(1, size * size + 1, dtype=torch.float32).view(1, size, size)
    return _changed(pixels, drawn).flatten().long().to(device)
