"""A segment of a video (`start end` in a list) as a source of frames."""

from collections.abc import Callable, Collection, Iterator

import numpy as np
import torch

from datasets.frame_source import Encoded, FrameSource
from utils.errors import UserError


class Segment(FrameSource):
    """The frames of `source` that are shown between two times.

    A frame is shown from its time to that of the next one; the time of the first frame is 0. Closing the segment closes
    its source.

    Args:
        start, end: seconds, 0 <= start < end.
        frame_rate: frames per second, if the source has no timestamps.

    Raises:
        UserError: the source has no timestamps, or ends before `start`.
    """

    def __init__(self, source: FrameSource, start: float, end: float, frame_rate: float | None = None):
        self._source = source
        self.name = f"{source.name}, {start:g} to {end:g} s"
        times = source.frame_times()
        if times is not None:
            last_interval_s = times[-1] / (len(times) - 1) if len(times) > 1 else 0.0
        elif frame_rate is not None:
            times, last_interval_s = np.arange(source.num_frames) / frame_rate, 1 / frame_rate
        else:
            raise UserError(
                f"{source.name}: segments need timestamps; set data.decoder=pyav, or data.frame_rate for frame folders"
            )
        # A time equal to that of a frame belongs to the frame, despite rounding.
        self._first = max(int(np.searchsorted(times, start + 1e-6, side="right")) - 1, 0)
        after_last = max(int(np.searchsorted(times, end - 1e-6, side="left")), self._first + 1)
        self.num_frames = after_last - self._first
        video_end_s = times[-1] + last_interval_s
        if start > 0 and start > video_end_s - 1e-6:
            ends = f"ends at {video_end_s:.3f} s" if last_interval_s else "has only one frame, at 0 s"
            raise UserError(f"{source.name}: starts at {start:g} s, but the video {ends}")

    def _decode(self, wanted: np.ndarray, target: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        first = self._first
        for index in self._source._decode(wanted + first, lambda i, height, width: target(i - first, height, width)):
            yield index - first

    def encoded(self, indices: np.ndarray, kinds: Collection[type[Encoded]]) -> tuple[torch.Tensor, Encoded] | None:
        return self._source.encoded(indices + self._first, kinds)

    def _frame_name(self, index: int) -> str:
        return self._source._frame_name(index + self._first)

    def close(self) -> None:
        self._source.close()
