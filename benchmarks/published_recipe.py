"""The published recipe as torchvision transforms on PIL images, the usual alternative.

Legend: T frames, S crop side.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, functional

F: Any = functional  # annotated for tensors only, but also accepts PIL images
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def load(folder: Path, indices: np.ndarray) -> list[Image.Image]:
    """An image per frame, with the short side resized to 256."""
    images = [Image.open(folder / f"img_{index + 1:05d}.jpg").convert("RGB") for index in indices]
    return [F.resize(image, 256, InterpolationMode.BICUBIC) for image in images]


def finish(images: list[Image.Image]) -> torch.Tensor:
    """(T,3,S,S) float32: scaled to 0..1, stacked, normalised."""
    return F.normalize(torch.stack([F.to_tensor(image) for image in images]), MEAN, STD)


def training_clip(folder: Path, indices: np.ndarray, box: tuple, flip: bool, gray: bool) -> torch.Tensor:
    """(T,3,224,224) float32, with the given random parameters."""
    images = [F.resized_crop(image, *box, [224, 224], InterpolationMode.BILINEAR) for image in load(folder, indices)]
    if flip:
        images = [F.hflip(image) for image in images]
    if gray:
        images = [F.to_grayscale(image, 3) for image in images]
    return finish(images)


def validation_clip(folder: Path, indices: np.ndarray) -> torch.Tensor:
    """(T,3,224,224) float32: the centre crop."""
    return finish([F.center_crop(image, 224) for image in load(folder, indices)])


def three_crops(folder: Path, indices: np.ndarray) -> torch.Tensor:
    """(frames*3,3,224,224) float32: left, right and centre crop of each frame."""
    crops = []
    for image in load(folder, indices):
        step_x, step_y = (image.width - 224) // 4, (image.height - 224) // 4
        crops += [F.crop(image, 2 * step_y, left, 224, 224) for left in (0, 4 * step_x, 2 * step_x)]
    return finish(crops)


def as_levels(clip: torch.Tensor) -> torch.Tensor:
    """Undo the normalisation; returns float32 levels in 0..255."""
    return (clip * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255


def assert_same_pixels(ours: torch.Tensor, published: torch.Tensor, what: str) -> None:
    """The tolerance of the test crops: mean difference at most 1 level, none over 6."""
    difference = (ours.float() - as_levels(published)).abs()
    assert difference.max() <= 6.01 and difference.mean() <= 1, f"{what}: {difference.max()}, {difference.mean()}"
    print(f"{what}: same pixels (mean difference {difference.mean():.3f} levels, largest {difference.max():.0f})  ")
