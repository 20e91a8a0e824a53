"""`data.grayscale`: the luma of ITU-R 601-2 in all three channels, Pillow's mode "L"."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from datasets.augmentations.augmentation import Augmentation
from utils.schema import Config


@dataclass(frozen=True)
class Grayscale(Augmentation):
    prob: float

    @classmethod
    def of(cls, cfg: Config) -> "Grayscale":
        # Never None: as published, its random number is drawn at probability 0 too.
        return cls(cfg.data.grayscale)

    def draw(self, size: int, rng: np.random.Generator) -> list[None]:
        return [None] if rng.random() < self.prob else []

    def apply(self, frames: torch.Tensor, drawn: None = None) -> torch.Tensor:
        # With Pillow, as one tall image: faster than tensor arithmetic, and Pillow's rounding is the reference.
        pixels = frames.movedim(-3, -1).contiguous()
        luma = Image.fromarray(pixels.flatten(0, -3).numpy()).convert("L")
        grey = np.array(Image.merge("RGB", (luma, luma, luma)))
        return torch.from_numpy(grey).view(pixels.shape).movedim(-1, -3)

    def apply_on_device(self, clips: torch.Tensor, drawn: None = None) -> torch.Tensor:
        """With Pillow's integer coefficients (Convert.c, L24)."""
        red, green, blue = clips.int().unbind(-3)
        luma = (red * 19595 + green * 38470 + blue * 7471 + 2**15) >> 16
        return luma.to(torch.uint8).unsqueeze(-3).expand(clips.shape)
