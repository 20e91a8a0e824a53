"""Batched transforms of clips on the training device (`data.pixels_on: device`), with the same random parameters.

The geometry and most operations use integers, or single roundings of float32, so the results of every device are those
of `datasets.transforms` on the CPU.

Legend: B clips, V clips of a video, T frames, C=3 channels, H,W image, S input size.
"""

from collections.abc import Sequence

import numpy as np
import torch

from datasets.augmentations.augmentation import Operation
from datasets.exact_resize import Axis, axis_of, resize
from datasets.transforms import Draw, EvalTransform, TrainTransform
from utils.memory import to_device

_MAX_LEVELS = 2**26  # resized at a time, as float32


def train_pixels(clips: Sequence[torch.Tensor], draws: Sequence[Draw], transform: TrainTransform) -> torch.Tensor:
    """(B,T,C,S,S) uint8 in channels-last memory, equal to `TrainTransform.apply`.

    Args:
        clips: uint8 (T,C,H,W) each, of the stored size, all on one device, in any layout of memory.
    """
    size = transform.input_size
    groups = _group_by_shape(clips)
    resized = []  # (B,T,S,S,C) for each group
    for places in groups:
        rows, columns = [], []
        for draw in [draws[place] for place in places]:
            top, left, height, width = draw.box
            rows.append(Axis(top, height, draw.size[0], draw.corner[0]))
            columns.append(Axis(left, width, draw.size[1], draw.corner[1], draw.is_flipped))
        frames = _resized(_stack([clips[place] for place in places]), transform)
        resized.append(resize(frames, rows, columns, (size, size), "bilinear", "torch").movedim(-3, -1))
    pixels = resized[0]
    if len(groups) > 1:
        original_order = np.argsort(np.concatenate(groups)).tolist()
        pixels = torch.cat(resized)[_indices(original_order, pixels.device)]
    pixels = pixels.movedim(-1, -3)
    _augment(pixels, [draw.operations for draw in draws])
    return pixels


def eval_pixels(videos: Sequence[torch.Tensor], transform: EvalTransform) -> list[torch.Tensor]:
    """(V,T,C,S,S) or (V,T,C,H',W') each, uint8 in channels-last memory, equal to `EvalTransform`.

    Args:
        videos: uint8 (V,T,C,H,W) each, of the stored size, all on one device, in any layout of memory.
    """
    pixels = [torch.empty(0)] * len(videos)
    for places in _group_by_shape(videos):
        frames = _resized(_stack([videos[place] for place in places]).flatten(0, 1), transform)
        frames = frames.movedim(-3, -1).contiguous().movedim(-1, -3)  # which the first layer of the model reads faster
        for place, clips in zip(places, frames.unflatten(0, (len(places), -1))):
            pixels[place] = transform.views(clips) if transform.num_crops == 1 else clips
    return pixels


def _stack(clips: Sequence[torch.Tensor]) -> torch.Tensor:
    """(...,C,H,W) each -> (B,...,C,H,W), with the memory layout of the first."""
    if clips[0].stride(-3) == 1:
        return torch.stack([clip.movedim(-3, -1) for clip in clips]).movedim(-1, -3)
    return torch.stack(list(clips))


def _group_by_shape(clips: Sequence[torch.Tensor]) -> list[list[int]]:
    """Group the indices of clips by shape, limited to _MAX_LEVELS per group."""
    by_shape: dict[torch.Size, list[int]] = {}
    for place, clip in enumerate(clips):
        by_shape.setdefault(clip.shape, []).append(place)
    groups = []
    for shape, places in by_shape.items():
        count = max(1, _MAX_LEVELS // shape.numel())
        groups += [places[first : first + count] for first in range(0, len(places), count)]
    return groups


def _resized(clips: torch.Tensor, transform: TrainTransform | EvalTransform) -> torch.Tensor:
    """(B,T,C,H,W) -> (B,T,C,H',W') after the first resize, and padded."""
    size = transform.input_size
    height, width = clips.shape[-2:]
    resized = transform.resize.size_of(height, width)
    padded = max(size, resized[0]), max(size, resized[1])
    if resized == padded == (height, width):
        return clips
    rows = [axis_of(height, resized[0], size)]
    columns = [axis_of(width, resized[1], size)]
    # Pillow and PyTorch return frames that already have the size unchanged, and so does this arithmetic.
    return resize(clips, rows, columns, padded, transform.resize.interpolation, transform.resize.resizer)


def _augment(clips: torch.Tensor, operations: Sequence[tuple[Operation, ...]]) -> None:
    """Apply the operations of each clip in place; clips with the same next operation are batched."""
    for step in range(max(map(len, operations))):
        places_of: dict[Operation, list[int]] = {}
        for place, clip_operations in enumerate(operations):
            if step < len(clip_operations):
                places_of.setdefault(clip_operations[step], []).append(place)
        for operation, places in places_of.items():
            indices = _indices(places, clips.device)
            with torch.autocast(clips.device.type, enabled=False):
                clips[indices] = operation.augmentation.apply_on_device(clips[indices], operation.drawn)


def _indices(places: list[int], device: torch.device) -> torch.Tensor:
    """For indexing: copying a list to the device would synchronise."""
    return to_device(torch.tensor(places), device)
