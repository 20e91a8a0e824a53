"""The interface of all readers: a number of frames, and the frames at given indices.

Legend: N frames asked for, H,W image. Frames are uint8 RGB, (N,3,H,W) over (N,H,W,3) memory (channels-last).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from datasets import READERS
from datasets.image_decoding import plain_jpeg_size
from datasets.transforms import Resize
from utils.components import Component
from utils.errors import UserError


class Jpegs(NamedTuple):
    """The frames of a clip as JPEG files, all of one size, that any decoder takes.

    Attributes:
        lengths: of each file in bytes; they follow one another.
        names: of the files, for messages.
        order: which file is each of the N frames.
        size: (H, W).
    """

    lengths: list[int]
    names: list[str]
    order: list[int]
    size: tuple[int, int]


class FrameSource(Component, ABC):
    """An opened video or frame folder. A context manager: leaving it closes the files.

    Those of the table READERS are made with the path of a video file and `listed_at`, its list line for messages.

    Attributes:
        name: path of the video or folder, with its list line, for error messages.
        num_frames: frames in it; indices run from 0 to num_frames - 1.
    """

    table = READERS
    name: str
    num_frames: int

    @classmethod
    def check_installed(cls) -> None:
        """Raise UserError where a package that it reads with is not installed or does not load."""

    def frame_times(self) -> np.ndarray | None:
        """float64 (num_frames,), seconds from the first frame to each, ascending; None: the source does not know."""
        return None

    def read(self, indices: np.ndarray, resize: Resize | None = None) -> torch.Tensor:
        """(N,3,H,W) uint8 RGB, channels-last memory: the frames at `indices`, in that order, repeats allowed.

        Each distinct frame is decoded once.

        Args:
            resize: what each frame goes through as it comes: memory then holds one frame of the stored size, however
                large it is. None: the stored size.

        Raises:
            UserError: for a frame that is missing or cannot be decoded, or whose size differs from the clip's first.
        """
        wanted, first, order = np.unique(indices, return_index=True, return_inverse=True)
        assert len(wanted) > 0 and wanted[0] >= 0 and wanted[-1] < self.num_frames, f"{self.name}: {indices}"
        clip = _Clip(self, len(indices), dict(zip(wanted.tolist(), first.tolist())), resize)
        missing = set(wanted.tolist())
        for index in self._decode(wanted, clip.target):
            missing.discard(index)
            clip.take(index)
        assert not missing, f"{self.name}: {missing}"
        for position, place in enumerate(first[order].tolist()):
            if position != place:
                clip.frames[position] = clip.frames[place]
        return clip.frames.permute(0, 3, 1, 2)

    def jpegs(self, indices: np.ndarray) -> tuple[torch.Tensor, Jpegs] | None:
        """The files of the frames at `indices`, uint8 (bytes,), each once, and what they are; None where they are not
        all JPEG files as `Jpegs` has them, or of several sizes: `read` decodes them, or says what is wrong."""
        wanted, order = np.unique(indices, return_inverse=True)
        files = self._files(wanted)
        sizes = {plain_jpeg_size(data) for data, _ in files}
        size = sizes.pop() if len(sizes) == 1 else None
        if size is None:
            return None
        data = torch.frombuffer(bytearray().join(data for data, _ in files), dtype=torch.uint8)
        return data, Jpegs([len(data) for data, _ in files], [name for _, name in files], order.tolist(), size)

    def _files(self, wanted: np.ndarray) -> Sequence[tuple[bytes, str]]:
        """The image files of the frames at `wanted`, and their names; none where frames have no files of their own."""
        return ()

    @abstractmethod
    def _decode(self, wanted: np.ndarray, target: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        """Decodes the frames at `wanted`, which are distinct and ascending, each into `target(index, H, W)`, (H,W,3).

        Yields the index of each when it is there; one that comes again takes the first one's place.
        """

    def _frame_name(self, index: int) -> str:
        """How an error names a frame."""
        return f"frame {index}"

    def close(self) -> None:  # noqa: B027  (a folder has nothing to close)
        """Free the decoder and the files. The source is not usable afterwards."""

    def __enter__(self) -> "FrameSource":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Clip:
    """The frames of a clip while they are decoded.

    Args:
        num_frames: N.
        place_of: frame index -> its place in the clip.
        resize: as of `FrameSource.read`.

    Attributes:
        frames: (N,H,W,3), made when the first frame's size is known.
    """

    def __init__(self, source: FrameSource, num_frames: int, place_of: dict[int, int], resize: Resize | None):
        self.frames = torch.zeros(0)
        self._source, self._num_frames, self._place_of, self._resize = source, num_frames, place_of, resize
        self._stored_size: tuple[int, int] | None = None
        self._one_frame: torch.Tensor | None = None  # (1,H,W,3), of the stored size, where that is another

    def target(self, index: int, height: int, width: int) -> torch.Tensor:
        """(H,W,3), where the frame `index` of this size is decoded to."""
        if self._stored_size is None:
            self._stored_size = (height, width)
            size = self._stored_size if self._resize is None else self._resize.size_of(height, width)
            self.frames = torch.empty((self._num_frames, *size, 3), dtype=torch.uint8)
            if size != self._stored_size:
                self._one_frame = torch.empty((1, height, width, 3), dtype=torch.uint8)
        if self._stored_size != (height, width):
            raise UserError(
                f"{self._source.name}: {self._source._frame_name(index)} is {width}x{height}, but other frames of the "
                f"clip are {self._stored_size[1]}x{self._stored_size[0]}; all frames of a video must have the same size"
            )
        return self.frames[self._place_of[index]] if self._one_frame is None else self._one_frame[0]

    def take(self, index: int) -> None:
        """The frame `index` is decoded."""
        if self._one_frame is not None:
            assert self._resize is not None
            resized = self._resize(self._one_frame.permute(0, 3, 1, 2))
            self.frames[self._place_of[index]] = resized[0].permute(1, 2, 0)


def describe(path: object, listed_at: str) -> str:
    """The name of a source in error messages: its path, and its list line if it has one."""
    return f"{path} (listed at {listed_at})" if listed_at else str(path)
