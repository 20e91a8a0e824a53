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

    takes_max_pixels = True

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
        located = self._video.stamps(wanted) if VideoFrames in kinds else None
        if located is None:
            return None
        stamps, places = located
        stream = self._video.file.stream
        assert stream.time_base is not None
        width, height = self._video.size
        frames = VideoFrames(
            path=self._path,
            listed_at=self._listed_at,
            codec=stream.codec_context.name,
            stream=stream.index,
            tick=float(stream.time_base),
            stamps=stamps,
            indices=indices.tolist(),
            order=places[order].tolist(),
            size=(height, width),
        )
        return torch.empty(0, dtype=torch.uint8), frames

    def _decode(self, wanted: np.ndarray, target: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        for index, frame in self._video.frames_at(wanted):
            pixels = self._video.to_rgb(frame)
            target(index, *pixels.shape[:2]).numpy()[:] = pixels
            yield index

    def check_frames(self) -> None:
        """Decode every frame; raises a UserError for the first corrupted one."""
        for _ in self._video.frames():
            pass

    def close(self) -> None:
        self._video.close()
