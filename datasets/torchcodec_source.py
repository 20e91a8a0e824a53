"""`data.decoder: torchcodec`, with exact seeking."""

import dataclasses
from importlib.metadata import version
from types import ModuleType
from typing import Any

import torch

from datasets.optional_reader import OptionalReader, import_optional
from utils.errors import UserError


class TorchCodecVideo(OptionalReader):
    package = "torchcodec"

    @classmethod
    def check_installed(cls) -> None:
        # Libraries are loaded at first use, so open an empty file: an error about the file means that they are loaded.
        try:
            _decoders().VideoDecoder(b"")
        except cls.errors() as error:
            _raise_if_not_loaded(error)

    @classmethod
    def errors(cls) -> tuple[type[Exception], ...]:
        _decoders()
        return RuntimeError, ValueError, IndexError

    def open(self, path: str) -> Any:
        try:
            return _decoders().VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
        except (RuntimeError, ValueError) as error:
            _raise_if_not_loaded(error)
            raise

    def frames(self, wanted: list[int]) -> torch.Tensor:
        return self._reader.get_frames_at(wanted).data


def _decoders() -> ModuleType:
    decoders = import_optional("torchcodec", "torchcodec.decoders")
    # Early versions ignore the rotation of videos.
    if "rotation" not in {field.name for field in dataclasses.fields(decoders.VideoStreamMetadata)}:
        raise UserError(
            f"data.decoder: torchcodec {version('torchcodec')} ignores the rotation of videos; run 'pip install "
            '"torchcodec>=0.11"\', or set data.decoder=pyav'
        )
    return decoders


def _raise_if_not_loaded(error: Exception) -> None:
    if "libtorchcodec" in str(error):
        raise UserError(
            "data.decoder: torchcodec is installed but finds no FFmpeg libraries; install FFmpeg, or set "
            "data.decoder=pyav"
        ) from None
