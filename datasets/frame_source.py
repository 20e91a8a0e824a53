"""Interface of all readers: the number of frames, and frames at given indices.

Legend: N requested frames, H,W image. Frames are uint8 RGB, (N,3,H,W) in channels-last memory.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from datasets import READERS
from datasets.image_decoding import decode_image, plain_jpeg_size
from datasets.transforms import Resize
from utils.components import Component
from utils.errors import UserError

_READ_AT_ONCE = 16
"""Number of images that are read before the first of them is decoded, since decoding replaces the code and data of
reading in the processor's cache."""


class Jpegs(NamedTuple):
    """The frames of a clip as JPEG files of one size that all decoders support.

    Attributes:
        lengths: length of each file in bytes; files are concatenated.
        names: names of the files, for messages.
        order: file index of each of the N frames.
        size: (H, W).
    """

    lengths: list[int]
    names: list[str]
    order: list[int]
    size: tuple[int, int]


class VideoFrames(NamedTuple):
    """The frames of a clip as timestamps in a video file, whose decoding is exact by them.

    Attributes:
        path, listed_at: the file, and its list line for messages.
        codec: FFmpeg's name of its codec.
        stream: index of its video stream.
        tick: unit of the timestamps in seconds.
        stamps: see `datasets.video_decoder.VideoDecoder.stamps`.
        indices: index in the video of each of the N frames.
        order: index in `stamps` of each of the N frames.
        size: (H, W).
    """

    path: str
    listed_at: str
    codec: str
    stream: int
    tick: float
    stamps: list[tuple[int, bool]]
    indices: list[int]
    order: list[int]
    size: tuple[int, int]


Encoded = Jpegs | VideoFrames


class FrameSource(Component, ABC):
    """An opened video or frame folder. A context manager that closes the files.

    Classes in the table READERS are created with the path of a video file and `listed_at`, its list line for messages.

    Attributes:
        name: path of the video or folder, with its list line, for error messages.
        num_frames: number of frames; indices are 0 to num_frames - 1.
    """

    table = READERS
    takes_max_pixels: ClassVar[bool] = False  # whether it can be created with `max_pixels`, the limit of a frame
    name: str
    num_frames: int

    @classmethod
    def check_installed(cls) -> None:
        """Raise a UserError if a required package is not installed or cannot be imported."""

    def frame_times(self) -> np.ndarray | None:
        """float64 (num_frames,): times of the frames in seconds from the first, ascending; None if unknown."""
        return None

    def read(self, indices: np.ndarray, resize: Resize | None = None) -> torch.Tensor:
        """(N,3,H,W) uint8 RGB in channels-last memory: the frames at `indices`, which may repeat.

        Each distinct frame is decoded once.

        Args:
            resize: applied to each frame as it is decoded, so that only one frame of the stored size is in memory.
                None: the stored size.

        Raises:
            UserError: a frame is missing, cannot be decoded, or has a different size than the first of the clip.
        """
        # Not np.unique, which takes longer for the few frames of a clip.
        place_of: dict[int, int] = {}  # frame -> its first position in the clip
        places = [place_of.setdefault(index, position) for position, index in enumerate(indices.tolist())]
        wanted = np.array(sorted(place_of))
        assert len(wanted) > 0 and wanted[0] >= 0 and wanted[-1] < self.num_frames, f"{self.name}: {indices}"
        clip = _Clip(self, len(indices), place_of, resize)
        missing = set(place_of)
        for index in self._decode(wanted, clip.target):
            missing.discard(index)
            clip.take(index)
        assert not missing, f"{self.name}: {missing}"
        for position, place in enumerate(places):
            if position != place:
                clip.frames[position] = clip.frames[place]
        return clip.frames.permute(0, 3, 1, 2)

    def encoded(self, indices: np.ndarray, kinds: Collection[type[Encoded]]) -> tuple[torch.Tensor, Encoded] | None:
        """The encoded frames at `indices` for a decoder on the device, uint8 (bytes,), and their description, one of
        `kinds`. None if it needs another kind; then use `read`."""
        return None

    def check_frames(self) -> None:
        """Decode the first, middle and last frame; raises a UserError if one cannot be decoded."""
        self.read(np.unique([0, self.num_frames // 2, self.num_frames - 1]))

    @abstractmethod
    def _decode(self, wanted: np.ndarray, target: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        """Decode the frames at `wanted` (distinct, ascending), each into `target(index, H, W)`, (H,W,3).

        Yields the index of each decoded frame; if an index is decoded again, it replaces the first.
        """

    def _frame_name(self, index: int) -> str:
        """The name of a frame in error messages."""
        return f"frame {index}"

    def close(self) -> None:  # noqa: B027  (a folder has nothing to close)
        """Close the decoder and the files."""

    def __enter__(self) -> "FrameSource":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class ImageSource(FrameSource):
    """A source whose frames are separate JPEG or PNG images."""

    @abstractmethod
    def _image(self, index: int) -> tuple[bytes, str]:
        """The encoded image of a frame, and its name for messages."""

    def encoded(self, indices: np.ndarray, kinds: Collection[type[Encoded]]) -> tuple[torch.Tensor, Encoded] | None:
        if Jpegs not in kinds:
            return None
        wanted, order = np.unique(indices, return_inverse=True)
        images = [self._image(index) for index in wanted.tolist()]
        sizes = {plain_jpeg_size(data) for data, _ in images}
        size = sizes.pop() if len(sizes) == 1 else None
        if size is None:
            return None
        jpegs = Jpegs([len(data) for data, _ in images], [name for _, name in images], order.tolist(), size)
        return torch.frombuffer(bytearray().join(data for data, _ in images), dtype=torch.uint8), jpegs

    def _decode(self, wanted: np.ndarray, target: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        for begin in range(0, len(wanted), _READ_AT_ONCE):
            group = wanted[begin : begin + _READ_AT_ONCE].tolist()
            for index, (data, name) in zip(group, [self._image(index) for index in group]):
                decode_image(data, name, partial(target, index))
                yield index


class _Clip:
    """Memory for the frames of a clip during decoding.

    Args:
        num_frames: N.
        place_of: frame index -> position in the clip.
        resize: see `FrameSource.read`.

    Attributes:
        frames: (N,H,W,3), allocated when the size of the first frame is known.
    """

    def __init__(self, source: FrameSource, num_frames: int, place_of: dict[int, int], resize: Resize | None):
        self._rows: list[torch.Tensor] = []  # (H,W,3) each
        self._source = source
        self._num_frames = num_frames
        self._place_of = place_of
        self._resize = resize
        self._stored_size: tuple[int, int] | None = None
        self._one_frame: torch.Tensor | None = None  # (1,H,W,3), if the stored size differs from the resized one

    def target(self, index: int, height: int, width: int) -> torch.Tensor:
        """Memory (H,W,3) into which frame `index` is decoded."""
        if self._stored_size is None:
            self._stored_size = (height, width)
            size = self._stored_size if self._resize is None else self._resize.size_of(height, width)
            self.frames = torch.empty((self._num_frames, *size, 3), dtype=torch.uint8)
            self._rows = list(self.frames.unbind(0))
            if size != self._stored_size:
                self._one_frame = torch.empty((1, height, width, 3), dtype=torch.uint8)
        if self._stored_size != (height, width):
            raise UserError(
                f"{self._source.name}: {self._source._frame_name(index)} is {width}x{height}, but other frames of the "
                f"clip are {self._stored_size[1]}x{self._stored_size[0]}; all frames of a video must have the same size"
            )
        return self._rows[self._place_of[index]] if self._one_frame is None else self._one_frame[0]

    def take(self, index: int) -> None:
        """Called when frame `index` is decoded."""
        if self._one_frame is not None:
            assert self._resize is not None
            resized = self._resize(self._one_frame.permute(0, 3, 1, 2))
            self._rows[self._place_of[index]].copy_(resized[0].permute(1, 2, 0))


def describe(path: object, listed_at: str) -> str:
    """The name of a source in error messages: its path, and its list line if any."""
    return f"{path} (listed at {listed_at})" if listed_at else str(path)
