"""`data.decoder: decord`. The package is imported when it is asked for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.frame_source import FrameSource, describe
from datasets.optional_reader import check_has_frames, check_is_video_file, import_optional, undecodable


class DecordVideo(FrameSource):
    """As `PyAVVideo`, by decord (single-threaded). Raises UserError if decord reports an error."""

    @classmethod
    def check_installed(cls) -> None:
        import_optional("decord")

    def __init__(self, path: str | Path, listed_at: str = ""):
        self.name = describe(path, listed_at)
        decord = import_optional("decord")
        check_is_video_file(path, self.name)
        try:
            self._reader: Any = decord.VideoReader(str(path), num_threads=1)
            self.num_frames = len(self._reader)
        except (decord.DECORDError, RuntimeError) as error:
            raise undecodable(self.name, "decord", error) from None
        self._error = decord.DECORDError
        check_has_frames(self)

    def _decode(self, wanted: np.ndarray, target: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        try:
            frames = torch.from_numpy(self._reader.get_batch(wanted.tolist()).asnumpy())
        except (self._error, RuntimeError) as error:
            raise undecodable(self.name, "decord", error) from None
        for index, frame in zip(wanted.tolist(), frames):
            target(index, *frame.shape[:2]).copy_(frame)
            yield index

    def close(self) -> None:
        self._reader = None
