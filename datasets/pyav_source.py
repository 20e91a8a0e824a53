"""`data.decoder: pyav` (FFmpeg): `VideoDecoder` with the interface of all readers."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
import torch

from datasets.frame_source import Encoded, FrameSource, VideoFrames
from datasets.image_decoding import MAX_PIXELS
from datasets.video_decoder import VideoDecoder


class PyAVVideo(FrameSource):
    """One video file; arguments and errors as for `VideoDecoder`. A video without frames is an error."""

    def __init__(self, path: str | Path, listed_at: str = "", max_pixels: int = MAX_PIXELS):
        self._path, self._listed_at = str(path), listed_at
        self._video = VideoDecoder(path, listed_at, max_pixels)
        self.name = self._video.name
        try:
            self.num_frames = self._video.num_frames
        except BaseException:
            self.close()
            raise

    def frame_times(self) -> np.ndarray:
        return self._video.frame_times()

    def encoded(self, indices: np.ndarray, kinds: Collection[type[Encoded]]) -> tuple[torch.Tensor, Encoded] | None:
        wanted, order = np.unique(indices, return_inverse=True)
        found = self._video.stamps(wanted) if VideoFrames in kinds else None
        if found is None:
            return None
        stream, (width, height), (stamps, places) = self._video.file.stream, self._video.size, found
        assert stream.time_base is not None
        return torch.empty(0, dtype=torch.uint8), VideoFrames(
            self._path, self._listed_at, stream.codec_context.name, stream.index, float(stream.time_base),
            stamps, indices.tolist(), places[order].tolist(), (height, width),
        )  # fmt: skip

    def _decode(self, wanted: np.ndarray, target: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        for index, frame in self._video.frames_at(wanted):
            pixels = self._video.to_rgb(frame)
            target(index, *pixels.shape[:2]).numpy()[:] = pixels
            yield index

    def decode_all(self) -> None:
        """Decode every frame; raises a UserError for the first corrupted one."""
        for _ in self._video.frames():
            pass

    def close(self) -> None:
        self._video.close()
