"""Base class of readers that need an optional package, which is imported at first use."""

import importlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import av
import numpy as np
import torch

from datasets.frame_source import FrameSource, describe
from datasets.video_file import open_container
from utils.errors import UserError, first_line


class OptionalReader(FrameSource):
    """A video file read by an optional package in a single thread. Raises a UserError if the package fails."""

    package: ClassVar[str]
    """Name of the package, which is also that of the decoder in configs."""

    def __init__(self, path: str | Path, listed_at: str = ""):
        self.name = describe(path, listed_at)
        self._errors = self.errors()
        if not Path(path).is_file():
            raise UserError(f"{self.name}: no such file; check data.train_root or data.val_root and the list")
        try:
            open_container(path, self.name).close()  # rejects playlists, whose files the packages would open
            self._reader: Any = self.open(str(path))
            self.num_frames = len(self._reader)
        except (*self._errors, av.FFmpegError) as error:
            raise self._undecodable(error) from None
        if self.num_frames < 1:
            raise UserError(f"{self.name}: the video stream contains no frames")

    @classmethod
    @abstractmethod
    def errors(cls) -> tuple[type[Exception], ...]:
        """Exceptions of the package for a file. Raises a UserError if it is not installed."""

    @abstractmethod
    def open(self, path: str) -> Any:
        """The package's reader of a file; its length is the number of frames."""

    @abstractmethod
    def frames(self, wanted: list[int]) -> torch.Tensor:
        """uint8 (n,H,W,3): the frames at these indices."""

    def _decode(self, wanted: np.ndarray, target: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        try:
            frames = self.frames(wanted.tolist())
        except self._errors as error:
            raise self._undecodable(error) from None
        for index, frame in zip(wanted.tolist(), frames):
            target(index, *frame.shape[:2]).copy_(frame)
            yield index

    def _undecodable(self, error: Exception) -> UserError:
        return UserError(
            f"{self.name}: {self.package} cannot decode it ({first_line(error)}); the file is corrupted or not a video"
        )

    def close(self) -> None:
        self._reader = None


def import_optional(package: str, module: str | None = None) -> ModuleType:
    """The module of an optional decoder package. Raises a UserError if it or its libraries are missing."""
    try:
        return importlib.import_module(module or package)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise
        raise UserError(
            f"data.decoder: {package} is not installed; run 'pip install {package}', or set data.decoder=pyav"
        ) from None
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"data.decoder: {package} is installed but does not load ({first_line(error)}); set data.decoder=pyav"
        ) from None
