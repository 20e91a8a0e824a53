"""What every reader gives: a number of frames, and the frames at given indices.

Legend: N frames asked for, H,W image. Frames are uint8 RGB, (N,3,H,W) over (N,H,W,3) memory (channels-last).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch

from utils.errors import UserError


class FrameSource(ABC):
    """An opened video or frame folder. A context manager: leaving it closes the files.

    Attributes:
        name: path of the video or folder, and the list line that promised it: how errors name it.
        num_frames: frames in it; indices run from 0 to num_frames - 1.
    """

    name: str
    num_frames: int

    def read(self, indices: np.ndarray) -> torch.Tensor:
        """(N,3,H,W) uint8 RGB, channels-last memory: the frames at `indices`, in that order, repeats allowed.

        Each distinct frame is decoded once.

        Raises:
            UserError: for a frame that is missing or cannot be decoded, or whose size differs from the clip's first.
        """
        wanted, first, order = np.unique(indices, return_index=True, return_inverse=True)
        assert len(wanted) > 0 and wanted[0] >= 0 and wanted[-1] < self.num_frames, f"{self.name}: {indices}"
        place_of = dict(zip(wanted.tolist(), first.tolist()))
        frames = None

        def room(index: int, height: int, width: int) -> torch.Tensor:
            nonlocal frames
            if frames is None:
                frames = torch.empty((len(indices), height, width, 3), dtype=torch.uint8)
            if frames.shape[1:3] != (height, width):
                raise self._differing_size(index, (height, width), frames.shape[1:3])
            return frames[place_of[index]]

        self._decode(wanted, room)
        for position, place in enumerate(first[order].tolist()):
            if position != place:
                frames[position] = frames[place]
        return frames.permute(0, 3, 1, 2)

    @abstractmethod
    def _decode(self, wanted: np.ndarray, room: Callable[[int, int, int], torch.Tensor]) -> None:
        """Decodes the frames at `wanted`, which are distinct and ascending, each into `room(index, H, W)`, (H,W,3)."""

    def _frame_name(self, index: int) -> str:
        """How an error names a frame."""
        return f"frame {index}"

    def _differing_size(self, index: int, size: tuple[int, int], first_size: tuple[int, int]) -> UserError:
        return UserError(
            f"{self.name}: {self._frame_name(index)} is {size[1]}x{size[0]}, other frames of the clip are "
            f"{first_size[1]}x{first_size[0]}; all frames of a video must have one size"
        )

    def close(self) -> None:  # noqa: B027  (a folder has nothing to close)
        """Free the decoder and the files. The source is not usable afterwards."""

    def __enter__(self) -> "FrameSource":
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def describe(path: object, listed_at: str) -> str:
    """How an error names a source: its path, and the list line that promised it where there is one."""
    return f"{path} (listed at {listed_at})" if listed_at else str(path)
