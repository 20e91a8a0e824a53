"""`data.color_jitter`: torchvision's ColorJitter with a probability."""

from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from datasets.augmentations.augmentation import Augmentation, seeded
from utils.data_sections import ColorJitterConfig
from utils.schema import Config

_ADJUST = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}


@dataclass(frozen=True)
class ColorJitter(Augmentation):
    """Brightness, contrast, saturation and hue, in random order."""

    ranges: ColorJitterConfig

    @classmethod
    def of(cls, cfg: Config) -> "ColorJitter | None":
        return cls(cfg.data.color_jitter) if cfg.data.color_jitter.prob > 0 else None

    def draw(self, size: int, rng: np.random.Generator) -> list[tuple[str, float]]:
        """Names of properties, and their factors."""
        ranges = self.ranges
        if rng.random() >= ranges.prob:
            return []
        with seeded(rng):
            drawn = v2.ColorJitter(ranges.brightness, ranges.contrast, ranges.saturation, ranges.hue).make_params([])
        names = list(_ADJUST)
        factors = {name: drawn[f"{name}_factor"] for name in names}
        order = [names[position] for position in drawn["fn_idx"].tolist()]
        return [(name, factors[name]) for name in order if factors[name] is not None]

    def apply(self, frames: torch.Tensor, drawn: tuple[str, float]) -> torch.Tensor:
        name, factor = drawn
        return _ADJUST[name](frames, factor)
