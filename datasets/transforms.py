"""Clip-level transforms of uint8 frames, with the same random parameters for all frames of a clip.

Legend: V views, T frames, C=3 channels, H,W image, S input size. Frames keep channels-last memory. Scaling to 0..1 and
normalisation are done in the model, on the device.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from datasets.augmentations.augmentation import Augmentation, Operation
from datasets.entries import Label

_ASPECT_RATIO = (3 / 4, 4 / 3)
_PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_CROP_TRIES = 10
_MULTI_SCALES = (1, 0.875, 0.75, 0.66)


@dataclass(frozen=True)
class Resize:
    """The first resize of a frame, antialiased. (...,C,H,W) uint8 -> the same with another H and W.

    Attributes:
        size: side in pixels, or (H, W) with `squash`.
        mode: which side becomes `size`, with the names of open_clip: `shortest` or `longest` (keeping the aspect
            ratio), or `squash` (both).
        interpolation: bicubic or bilinear.
        resizer: torch or pillow; pillow is bit-identical to open_clip, torch differs by up to 2 levels and takes half
            the time.
    """

    size: int | tuple[int, int]
    mode: str = "shortest"
    interpolation: str = "bicubic"
    resizer: str = "torch"

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """Resize frames; returns them unchanged if they already have the size."""
        height, width = frames.shape[-2:]
        size = self.size_of(height, width)
        if self.resizer == "pillow" and frames.shape[-2:] != size:
            return _resize_by_pillow(frames, size, self.interpolation)
        return _resize_to(frames, size, self.interpolation)

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of a resized image."""
        if not isinstance(self.size, int):
            assert self.mode == "squash", self.mode
            return self.size
        if self.mode == "squash":
            return self.size, self.size
        if self.mode == "longest":
            ratio = max(height, width) / self.size
            return max(1, round(height / ratio)), max(1, round(width / ratio))
        return _short_side_to(self.size, height, width)


class Draw(NamedTuple):
    """The random parameters of a training clip, applied to all frames after the first resize.

    Attributes:
        box: top, left, height and width of the crop of the resized, padded frame.
        size: (H, W) to which the crop is resized.
        corner: top and left of a second crop of S x S pixels.
        is_flipped: whether it is mirrored.
        operations: the augmentations, in order of application.
    """

    box: tuple[int, int, int, int]
    size: tuple[int, int]
    corner: tuple[int, int] = (0, 0)
    is_flipped: bool = False
    operations: tuple[Operation, ...] = ()


@dataclass(frozen=True)
class TrainTransform:
    """Resize, random crop to S x S, flip and augmentations, with random parameters drawn once per clip.

    Attributes:
        resize: the first step.
        input_size: S.
        multi_scale: whether to use TSN's multi-scale crop at fixed positions instead of the random resized crop.
        area_range: range of the random resized crop, as shares of the image.
        flip_prob: probability of mirroring, 0..1.
        flip_pairs: label -> label of the mirrored clip.
        augmentations: those that are on, in the order of `datasets.augmentations.AUGMENTATIONS`.
    """

    resize: Resize
    input_size: int
    multi_scale: bool = False
    area_range: tuple[float, float] = (0.08, 1.0)
    flip_prob: float = 0.5
    flip_pairs: Mapping[int, int] = field(default_factory=dict)
    augmentations: tuple[Augmentation, ...] = ()

    def __call__(self, frames: torch.Tensor, label: Label, rng: np.random.Generator) -> tuple[torch.Tensor, Label]:
        """(1,T,C,H,W) uint8 -> (T,C,S,S) uint8, and the label (changed if mirroring changes the class)."""
        assert frames.shape[0] == 1, "training uses one clip of a video"
        draw, label = self.draw((frames.shape[-2], frames.shape[-1]), label, rng)
        return self.apply(frames[0], draw), label

    def draw(self, size: tuple[int, int], label: Label, rng: np.random.Generator) -> tuple[Draw, Label]:
        """Draw the random parameters for a clip with frames of the stored or resized size (H, W), and its label."""
        stored_height, stored_width = size
        height, width = self.resize.size_of(stored_height, stored_width)
        draw = self._draw_crop(max(height, self.input_size), max(width, self.input_size), rng)
        is_flipped = rng.random() < self.flip_prob
        if is_flipped:
            label = self._mirrored(label)
        operations = tuple(
            Operation(one, drawn) for one in self.augmentations for drawn in one.draw(self.input_size, rng)
        )
        return draw._replace(is_flipped=is_flipped, operations=operations), label

    def _mirrored(self, label: Label) -> Label:
        if isinstance(label, int):
            return self.flip_pairs.get(label, label)
        return tuple(sorted(self.flip_pairs.get(class_id, class_id) for class_id in label))

    def _draw_crop(self, height: int, width: int, rng: np.random.Generator) -> Draw:
        size = self.input_size
        if self.multi_scale:
            box = multi_scale_box(height, width, size, rng)
        else:
            box = random_resized_box(height, width, self.area_range, rng)
        if box is not None:
            return Draw(box, (size, size))
        resized_height, resized_width = _short_side_to(size, height, width)
        top = int(rng.integers(resized_height - size + 1))
        left = int(rng.integers(resized_width - size + 1))
        return Draw((0, 0, height, width), (resized_height, resized_width), (top, left))

    def apply(self, frames: torch.Tensor, draw: Draw) -> torch.Tensor:
        """(T,C,H,W) uint8 on the CPU -> (T,C,S,S) uint8, which may be a view of it."""
        frames = pad_to(self.resize(frames), self.input_size)
        top, left, height, width = draw.box
        frames = _resize_to(frames[..., top : top + height, left : left + width], draw.size, "bilinear")
        if draw.size != (self.input_size, self.input_size):
            top, left = draw.corner
            frames = frames[..., top : top + self.input_size, left : left + self.input_size]
        if draw.is_flipped:
            frames = frames.flip(-1)
        for augmentation, drawn in draw.operations:
            frames = augmentation.apply(frames, drawn)
        return frames


@dataclass(frozen=True)
class EvalTransform:
    """Resize, and centre crop if there is one crop; several crops are taken later by `make_views`.

    Attributes: as in `TrainTransform`; num_crops: 1, 3, 5 or 10.
    """

    resize: Resize
    input_size: int
    num_crops: int = 1

    def __call__(self, frames: torch.Tensor, label: Label, rng: np.random.Generator) -> tuple[torch.Tensor, Label]:
        """(clips,T,C,H,W) uint8 -> (clips,T,C,S,S) for one crop, (clips,T,C,H',W') for several. Deterministic."""
        frames = pad_to(self.resize(frames), self.input_size)
        if self.num_crops == 1:
            frames = self.views(frames)
        return frames, label

    def views(self, frames: torch.Tensor) -> torch.Tensor:
        """Crop resized clips with `make_views`: (clips,T,C,H,W) -> (clips * num_crops,T,C,S,S)."""
        return make_views(frames, self.num_crops, self.input_size)


def make_views(frames: torch.Tensor, num_crops: int, size: int) -> torch.Tensor:
    """Test crops in the published order, on the device of the frames.

    Args:
        frames: (clips,T,C,H,W), any dtype, H and W at least `size`.
        num_crops: 1 = centre; 3 = left, right, centre at half height; 5 = four corners and centre; 10 = each of the
            five followed by its mirror.
        size: S.

    Returns:
        (V,T,C,S,S) in channels-last memory, with V = clips * num_crops; the crops of a clip are consecutive.
    """
    height, width = frames.shape[-2:]
    assert height >= size and width >= size, f"crops of {size} from frames of {width}x{height}"
    assert num_crops in (1, 3, 5, 10), num_crops
    step_x, step_y = (width - size) // 4, (height - size) // 4
    corners = [(0, 0), (4 * step_x, 0), (0, 4 * step_y), (4 * step_x, 4 * step_y)]
    centre = (2 * step_x, 2 * step_y)
    if num_crops == 1:
        # The single crop is centred to the pixel, half to even; golden values distinguish it from steps of 2.
        places = [(round((width - size) / 2), round((height - size) / 2))]
    elif num_crops == 3:
        places = [(0, 2 * step_y), (4 * step_x, 2 * step_y), centre]
    else:
        places = [*corners, centre]
    # Channels last, as in memory, so that whole rows are copied instead of single bytes.
    pixels = frames.movedim(-3, -1)
    crops = []
    for left, top in places:
        crop = pixels[..., top : top + size, left : left + size, :]
        crops += [crop, crop.flip(-2)] if num_crops == 10 else [crop]
    views = crops[0] if len(crops) == 1 else torch.stack(crops, dim=1).flatten(0, 1)
    return views.movedim(-1, -3)


def pad_to(frames: torch.Tensor, size: int) -> torch.Tensor:
    """Pad (...,C,H,W) with black to `size` on both sides, an odd pixel at right and bottom, as in open_clip. Returns
    the input if it is large enough."""
    height, width = frames.shape[-2:]
    down, across = max(0, size - height), max(0, size - width)
    if down == across == 0:
        return frames
    # Channels last, as in memory.
    border = (0, 0, across // 2, across - across // 2, down // 2, down - down // 2)
    return torch.nn.functional.pad(frames.movedim(-3, -1), border).movedim(-1, -3)


def _short_side_to(short_side: int, height: int, width: int) -> tuple[int, int]:
    """(H, W) of an image resized to a short side; the long side is rounded down, as in torchvision."""
    if height <= width:
        return short_side, short_side * width // height
    return short_side * height // width, short_side


def _resize_to(frames: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    """Resize (...,C,H,W) uint8 to (H, W) with antialiasing, in 8-bit arithmetic like Pillow. No copy if it has the
    size.

    torchvision's resize is not used, because it is 15 times slower (float32) on processors with AVX-512.
    """
    if frames.shape[-2:] == tuple(size):
        return frames
    flat = frames.flatten(0, -4)
    resized = torch.nn.functional.interpolate(flat, size, mode=mode, antialias=True, align_corners=False)
    return resized.view(*frames.shape[:-2], *size)


def _resize_by_pillow(frames: torch.Tensor, size: tuple[int, int], interpolation: str) -> torch.Tensor:
    """Resize (...,3,H,W) uint8 on the CPU to (H, W), frame by frame."""
    height, width = size
    pixels = frames.movedim(-3, -1).contiguous()
    resized = torch.empty((*pixels.shape[:-3], height, width, 3), dtype=torch.uint8)
    for target, frame in zip(resized.flatten(0, -4), pixels.flatten(0, -4)):
        image = Image.fromarray(frame.numpy()).resize((width, height), _PILLOW[interpolation])
        target.copy_(torch.from_numpy(np.array(image)))
    return resized.movedim(-1, -3)


def random_resized_box(
    height: int, width: int, area_range: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of a crop: area uniform in `area_range` of the image, aspect ratio uniform in
    3/4..4/3, width and height swapped with probability 1/2. None if ten attempts do not fit."""
    for _ in range(_CROP_TRIES):
        area = rng.uniform(*area_range) * height * width
        ratio = rng.uniform(*_ASPECT_RATIO)
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if rng.random() < 0.5:
            crop_width, crop_height = crop_height, crop_width
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(rng.integers(height - crop_height + 1))
            left = int(rng.integers(width - crop_width + 1))
            return top, left, crop_height, crop_width
    return None


def multi_scale_box(height: int, width: int, size: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width) of TSN's multi-scale crop.

    The sides are 1, 0.875, 0.75 or 0.66 of the image's short side, at most one step in this list apart; sides within 2
    pixels of `size` are set to `size`. There are 13 positions: corners, centre, edge centres and quarter points.
    """
    sides = [int(min(height, width) * scale) for scale in _MULTI_SCALES]
    sides = [size if abs(side - size) < 3 and size <= min(height, width) else side for side in sides]
    pairs = [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
    crop_height, crop_width = pairs[rng.integers(len(pairs))]
    step_y, step_x = (height - crop_height) // 4, (width - crop_width) // 4
    places = [(y, x) for y in (0, 2, 4) for x in (0, 2, 4)] + [(y, x) for y in (1, 3) for x in (1, 3)]
    y, x = places[rng.integers(len(places))]
    return y * step_y, x * step_x, crop_height, crop_width
