"""Frames that do not come from a video file: a folder of images, or an array in memory.

Legend: N frames, H,W image.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from datasets.frame_folder import read_image_file
from datasets.frame_source import FrameSource, ImageSource
from inference.video_inputs import is_live, list_frames
from utils.errors import UserError

Video = str | Path | int | np.ndarray | torch.Tensor
"""A file, a folder of frames, a camera's number or a URL; or frames, uint8 (N,H,W,3) or (N,3,H,W), RGB."""


class FrameFolder(ImageSource):
    """The images of a folder, ordered by the numbers in their names."""

    def __init__(self, folder: Path):
        self.name = str(folder)
        self._paths = list_frames(folder)
        self.num_frames = len(self._paths)

    def _image(self, index: int) -> tuple[bytes, str]:
        path = self._paths[index]
        return read_image_file(path), str(path)


class FrameArray(FrameSource):
    """Frames in memory.

    Args:
        frames: uint8 (N,H,W,3), or (N,3,H,W), RGB.

    Raises:
        UserError: the type or shape is different.
    """

    def __init__(self, frames: np.ndarray | torch.Tensor):
        pixels = torch.as_tensor(frames).cpu()
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or 3 not in (pixels.shape[1], pixels.shape[3]):
            found = f"{pixels.dtype} {tuple(pixels.shape)}".removeprefix("torch.")
            raise UserError(f"frames: expected uint8 RGB of shape (N,H,W,3) or (N,3,H,W), got {found}")
        if not pixels.numel():
            raise UserError("frames: the array is empty; give at least one frame")
        self._pixels = pixels if pixels.shape[3] == 3 else pixels.permute(0, 2, 3, 1)
        self.name, self.num_frames = "frames", len(pixels)

    def _decode(self, wanted: np.ndarray, target: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        for index in wanted.tolist():
            frame = self._pixels[index]
            target(index, *frame.shape[:2]).copy_(frame)
            yield index


Source = FrameSource | str | Path | int
"""Frames, or their file, camera or URL."""


def as_source(video: Video) -> Source:
    """The frames of an array or a folder; other sources unchanged."""
    if isinstance(video, (np.ndarray, torch.Tensor)):
        return FrameArray(video)
    return FrameFolder(Path(str(video))) if not is_live(video) and Path(str(video)).is_dir() else video
