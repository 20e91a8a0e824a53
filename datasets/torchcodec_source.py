"""`data.decoder: torchcodec`. The package is imported when it is asked for."""

import dataclasses
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from datasets.frame_source import FrameSource, describe
from datasets.optional_reader import check_has_frames, check_is_video_file, import_optional, undecodable
from utils.errors import UserError


class TorchCodecVideo(FrameSource):
    """As `PyAVVideo`, by torchcodec (single-threaded, exact seeking). Raises UserError if it reports an error."""

    @classmethod
    def check_installed(cls) -> None:
        # Its libraries are loaded at the first use, so an empty file is tried: any complaint about the file is well.
        try:
            _decoders().VideoDecoder(b"")
        except (RuntimeError, ValueError) as error:
            _raise_if_not_loaded(error)

    def __init__(self, path: str | Path, listed_at: str = ""):
        self.name = describe(path, listed_at)
        decoders = _decoders()
        check_is_video_file(path, self.name)
        try:
            self._reader: Any = decoders.VideoDecoder(
                str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
            )
            self.num_frames = len(self._reader)
        except (RuntimeError, ValueError) as error:
            _raise_if_not_loaded(error)
            raise undecodable(self.name, "torchcodec", error) from None
        check_has_frames(self)

    def _decode(self, wanted: np.ndarray, target: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        try:
            frames = self._reader.get_frames_at(wanted.tolist()).data
        except (RuntimeError, ValueError, IndexError) as error:
            raise undecodable(self.name, "torchcodec", error) from None
        for index, frame in zip(wanted.tolist(), frames):
            target(index, *frame.shape[:2]).copy_(frame)
            yield index

    def close(self) -> None:
        self._reader = None


def _decoders() -> ModuleType:
    decoders = import_optional("torchcodec", "torchcodec.decoders")
    # The first versions give the frames of a phone's upright video lying on their side.
    if "rotation" not in {field.name for field in dataclasses.fields(decoders.VideoStreamMetadata)}:
        raise UserError(
            f"data.decoder: torchcodec {version('torchcodec')} ignores the rotation of videos; run "
            "'pip install \"torchcodec>=0.11\"', or set data.decoder=pyav"
        )
    return decoders


def _raise_if_not_loaded(error: Exception) -> None:
    if "libtorchcodec" in str(error):
        raise UserError(
            "data.decoder: torchcodec is installed but finds no FFmpeg libraries; install FFmpeg, or set "
            "data.decoder=pyav"
        ) from None
