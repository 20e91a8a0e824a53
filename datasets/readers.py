"""One interface to frame folders and videos: `open_source`. decord and torchcodec are imported only when asked for."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from datasets.frame_folder import FrameFolder
from datasets.frame_source import FrameSource, describe
from datasets.lists import ListEntry
from datasets.packed_clip import PackedClip, is_packed_clip
from datasets.pyav_source import PyAVVideo
from utils.errors import UserError, first_line


def open_source(
    root: str | Path,
    entry: ListEntry,
    *,
    modality: str,
    list_path: str | Path = "",
    image_tmpl: str = "img_{:05d}.jpg",
    index_bias: int = 1,
    decoder: str = "pyav",
) -> FrameSource:
    """The opened video or frame folder of a list entry.

    Args:
        root: folder that the entry's path is relative to.
        modality: "RGB" (frame folders) or "video".
        list_path: of the list that the entry is from; errors then name its line.
        image_tmpl, index_bias: file name of a frame and number of the first one ("RGB" only).
        decoder: "pyav", "decord" or "torchcodec" ("video" only); packed clips are recognised and need none.

    Raises:
        UserError: when it could not be opened, or the decoder is not installed.
    """
    path = Path(root) / entry.path
    listed_at = f"{list_path}:{entry.line}" if str(list_path) else ""
    if modality == "RGB":
        assert entry.num_frames is not None  # a frame list has them
        return FrameFolder(path, entry.num_frames, image_tmpl, index_bias, listed_at)
    assert modality == "video", modality
    if is_packed_clip(path):
        return PackedClip(path, listed_at)
    return _VIDEO_SOURCES[decoder](path, listed_at)


def check_decoder(decoder: str) -> None:
    """Raise UserError when the package behind `data.decoder` is not installed or does not load."""
    if decoder == "decord":
        _optional("decord")
    elif decoder == "torchcodec":
        # Its libraries are loaded at the first use, so an empty file is tried: any complaint about the file is well.
        try:
            _optional("torchcodec", "torchcodec.decoders").VideoDecoder(b"")
        except (RuntimeError, ValueError) as error:
            _raise_if_not_loaded(error)


class DecordVideo(FrameSource):
    """As `PyAVVideo`, by decord (single-threaded). Raises UserError if decord reports an error."""

    def __init__(self, path: str | Path, listed_at: str = ""):
        self.name = describe(path, listed_at)
        decord = _optional("decord")
        _check_is_file(path, self.name)
        try:
            self._reader: Any = decord.VideoReader(str(path), num_threads=1)
            self.num_frames = len(self._reader)
        except (decord.DECORDError, RuntimeError) as error:
            raise _undecodable(self.name, "decord", error) from None
        self._error = decord.DECORDError
        _check_has_frames(self)

    def _decode(self, wanted: np.ndarray, target: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        try:
            frames = torch.from_numpy(self._reader.get_batch(wanted.tolist()).asnumpy())
        except (self._error, RuntimeError) as error:
            raise _undecodable(self.name, "decord", error) from None
        for index, frame in zip(wanted.tolist(), frames):
            target(index, *frame.shape[:2]).copy_(frame)
            yield index

    def close(self) -> None:
        self._reader = None


class TorchCodecVideo(FrameSource):
    """As `PyAVVideo`, by torchcodec (single-threaded, exact seeking). Raises UserError if it reports an error."""

    def __init__(self, path: str | Path, listed_at: str = ""):
        self.name = describe(path, listed_at)
        decoders = _optional("torchcodec", "torchcodec.decoders")
        _check_is_file(path, self.name)
        try:
            self._reader: Any = decoders.VideoDecoder(
                str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
            )
            self.num_frames = len(self._reader)
        except (RuntimeError, ValueError) as error:
            _raise_if_not_loaded(error)
            raise _undecodable(self.name, "torchcodec", error) from None
        _check_has_frames(self)

    def _decode(self, wanted: np.ndarray, target: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        try:
            frames = self._reader.get_frames_at(wanted.tolist()).data
        except (RuntimeError, ValueError, IndexError) as error:
            raise _undecodable(self.name, "torchcodec", error) from None
        for index, frame in zip(wanted.tolist(), frames):
            target(index, *frame.shape[:2]).copy_(frame)
            yield index

    def close(self) -> None:
        self._reader = None


_VIDEO_SOURCES = {"pyav": PyAVVideo, "decord": DecordVideo, "torchcodec": TorchCodecVideo}


def _optional(package: str, module: str | None = None) -> ModuleType:
    """The module of an optional decoder package. Raises UserError if it or its libraries are missing."""
    try:
        return importlib.import_module(module or package)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise
        raise UserError(
            f"data.decoder: {package} is not installed; run 'pip install {package}', or set data.decoder=pyav"
        ) from None
    except (ImportError, OSError, RuntimeError) as error:
        reason = first_line(error)
        raise UserError(
            f"data.decoder: {package} is installed but does not load ({reason}); set data.decoder=pyav"
        ) from None


def _raise_if_not_loaded(error: Exception) -> None:
    if "libtorchcodec" in str(error):
        raise UserError(
            "data.decoder: torchcodec is installed but finds no FFmpeg libraries; install FFmpeg, or set "
            "data.decoder=pyav"
        ) from None


def _check_is_file(path: str | Path, name: str) -> None:
    if not Path(path).is_file():
        raise UserError(f"{name}: no such file; check data.train_root or data.val_root and the list")


def _check_has_frames(source: FrameSource) -> None:
    if source.num_frames < 1:
        raise UserError(f"{source.name}: the video stream contains no frames")


def _undecodable(name: str, decoder: str, error: Exception) -> UserError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else type(error).__name__
    return UserError(f"{name}: {decoder} cannot decode it ({reason}); the file is corrupted or not a video")
