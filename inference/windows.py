"""Reads clips for predictions from a video, folder of frames, camera or stream, as a whole or in sliding windows.

A short video is sampled as in test.py, so its embedding is the same. A long video is decoded once in sequence; only the
sampled frames of each window are kept, at the input size of the model, so that memory does not depend on its length.
Times are exact fractions of a second from the first frame.

Legend: T segments, L consecutive frames per segment, C=3 channels, H,W image, S input size.
"""

import itertools
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch

from datasets.build import first_resize, input_size
from datasets.frame_source import FrameSource
from datasets.image_decoding import MAX_PIXELS
from datasets.sampling import DENSE_WINDOW
from datasets.transforms import EvalTransform
from datasets.video_dataset import FrameChooser
from inference.frame_streams import FOLDER_FPS, ShownFrame, frames_of, live_frames, measure_seconds, open_whole
from inference.frames import Source, Video, as_source
from modules.pixels import with_preprocessing
from utils.errors import UserError
from utils.interval import check_times
from utils.schema import Config

WHOLE_SECONDS = 30
"""Videos up to this length are one clip by default."""
WINDOW_SECONDS = 10
"""Default length of a window: that of the Kinetics clips that the published models were trained on."""
MAX_WINDOWS = 2**20
"""Maximum number of windows of a file or folder: a day with one every 83 ms."""


class Window(NamedTuple):
    """`clip`: uint8 (T*L,C,S,S), the input of the model for the seconds from `start` to `end`."""

    start: float
    end: float
    clip: torch.Tensor


@dataclass(frozen=True)
class WindowReader:
    """Reads clips for a model; `build_window_reader` creates one from a config."""

    choose_frames: FrameChooser  # test rule with one clip: number of frames, generator -> (T*L,) indices
    transform: EvalTransform  # that of tests, with one crop
    decoder: str = "pyav"  # for short video files
    max_pixels: int = MAX_PIXELS  # per frame of a video file

    def windows(
        self,
        source: Video,
        window: float | None = None,
        stride: float | None = None,
        *,
        fps: float = FOLDER_FPS,
        max_seconds: float | None = None,
    ) -> Iterator[Window]:
        """The clips of `source` in order of time, each as soon as it is complete.

        Args:
            source: a video file, a folder of frames, the number of a camera, a URL, or an array of frames.
            window: length in seconds; shorter files are one clip, sampled as in test.py. 0: one clip for files of any
                length. None: windows of 10 s for videos longer than 30 s, and for cameras and URLs.
            stride: seconds between the starts of windows; None: half a window.
            fps: frames per second of a folder or an array of frames.
            max_seconds: maximum duration of a camera or URL.

        Raises:
            UserError: an argument is invalid, or the source is missing, corrupted or not a video. Windows before a
                corrupted part are yielded first.
        """
        check_times(window, stride, fps, max_seconds)
        opened = as_source(source)
        seconds = measure_seconds(opened, fps)
        length, step = self._plan(window, stride, seconds)
        if seconds is None:
            if not length:
                raise UserError(f"window 0: {source} has no end; set the length of a window")
            yield from self._slide(live_frames(str(source), max_seconds, self.max_pixels), length, step, None)
        elif not length:
            yield self._whole(opened, seconds)
        else:
            yield from self._slide(frames_of(opened, fps, self.max_pixels), length, step, seconds)

    def num_windows(
        self, source: Video, window: float | None, stride: float | None, *, fps: float = FOLDER_FPS
    ) -> int | None:
        """Number of clips of `windows`; None if the length is unknown. Raises the errors of `windows`."""
        check_times(window, stride, fps)
        seconds = measure_seconds(as_source(source), fps)
        if seconds is None:
            return None
        length, step = self._plan(window, stride, seconds)
        return 1 - (length - seconds) // step if length else 1

    def _plan(self, window: float | None, stride: float | None, seconds: Fraction | None) -> tuple[Fraction, Fraction]:
        """Length and stride of the windows for a duration in seconds (None: unknown); length 0: one clip."""
        # Models with dense clips were trained on 128 frames at a time.
        usual = Fraction(DENSE_WINDOW, FOLDER_FPS) if self.choose_frames.dense else Fraction(WINDOW_SECONDS)
        length = usual if window is None else Fraction(str(window))
        if seconds is not None and seconds <= (WHOLE_SECONDS if window is None else length):
            length = Fraction(0)
        step = length / 2 if stride is None else Fraction(str(stride))
        if seconds is not None and length and seconds > MAX_WINDOWS * step:
            raise UserError(f"more than {MAX_WINDOWS} windows in {float(seconds):g} seconds; set a longer stride")
        return length, step

    def _whole(self, source: Source, seconds: Fraction) -> Window:
        with open_whole(source, self.decoder, self.max_pixels) as opened:
            frames = opened.read(self.choose_frames(opened.num_frames, np.random.default_rng(0)))
        return Window(0.0, float(seconds), self._fit(frames))

    def _fit(self, frames: torch.Tensor) -> torch.Tensor:
        """(n,C,H,W) -> (n,C,S,S)."""
        return self.transform(frames[None], 0, np.random.default_rng(0))[0][0]

    def _slide(
        self, frames: Iterator[ShownFrame], length: Fraction, stride: Fraction, seconds: Fraction | None
    ) -> Iterator[Window]:
        """The windows that begin at `_starts`; the one at the end of the video may be shorter."""
        starts = _starts(length, stride, seconds)
        start = next(starts)
        open_windows: deque[_OpenWindow] = deque()
        covered_to = end = Fraction(0)
        for index, frame in enumerate(frames):
            while start < frame.end:
                targets = self._targets(start, length, frame)
                open_windows.append(_OpenWindow(start, length, targets, self.choose_frames.seg_length))
                start = next(starts)
            wanting = [slots for w in open_windows if (slots := w.slots_of(index, frame))]
            if wanting:
                pixels = self._fit(frame.pixels()[None])[0]
                for w in open_windows:
                    w.take(index, pixels)
            end = frame.end
            while open_windows and open_windows[0].end <= end:
                done = open_windows.popleft()
                covered_to = done.end
                yield done.finish(done.end)
        # A rest shorter than a sampling step is ignored, unless it is the whole video.
        if open_windows and (covered_to == 0 or end - covered_to > length / self.choose_frames.num_segments):
            yield open_windows[0].finish(end)

    def _targets(self, start: Fraction, length: Fraction, frame: ShownFrame) -> list[Fraction]:
        """The times of a window's T segments; `frame` is its first one."""
        num_segments = self.choose_frames.num_segments
        if not self.choose_frames.is_linspace:
            return [start + length * i / num_segments for i in range(num_segments)]
        # The last sampled frame is the last of the window, and is shown until the window ends.
        span = max(Fraction(0), length - (frame.end - frame.begin))
        return [start + span * i / max(1, num_segments - 1) for i in range(num_segments)]


class _OpenWindow:
    """A window under construction: for each target time, the frame shown at that time and the next L-1 frames. At a
    constant frame rate these are the frames that test.py samples from a video of the same length.

    Args:
        targets: ascending times of the T segments.
    """

    def __init__(self, start: Fraction, length: Fraction, targets: list[Fraction], seg_length: int):
        self.start, self.end = start, start + length
        self._targets, self._seg_length = targets, seg_length
        self._clip: list[torch.Tensor | None] = [None] * (len(targets) * seg_length)
        self._next = 0
        self._slots_at: dict[int, list[int]] = defaultdict(list)

    def slots_of(self, index: int, frame: ShownFrame) -> list[int]:
        """Positions of frame `index` in the clip."""
        while self._next < len(self._targets) and self._targets[self._next] < frame.end:
            for offset in range(self._seg_length):
                self._slots_at[index + offset].append(self._next * self._seg_length + offset)
            self._next += 1
        return self._slots_at.get(index, [])

    def take(self, index: int, pixels: torch.Tensor) -> None:
        for slot in self._slots_at.pop(index, []):
            self._clip[slot] = pixels

    def finish(self, end: Fraction) -> Window:
        """The clip; if the video ended before it was complete, its frames are spread over it in order."""
        frames = [pixels for pixels in self._clip if pixels is not None]
        places = np.arange(len(self._clip)) * len(frames) // len(self._clip)
        return Window(float(self.start), float(end), torch.stack([frames[place] for place in places]))


def _starts(length: Fraction, stride: Fraction, seconds: Fraction | None) -> Iterator[Fraction]:
    """0, stride, 2 stride ...; if the length of the video is known, also the start of the window at its end."""
    starts = (count * stride for count in itertools.count())
    if seconds is not None:
        last = max(Fraction(0), seconds - length)
        start = next(starts)
        while start < last:
            yield start
            start = next(starts)
        yield last
        if start > last:
            yield start
    yield from starts  # the video may be longer than its header says


def build_window_reader(cfg: Config) -> WindowReader:
    """The reader of videos for predictions, with the test sampling and preprocessing of one view. Raises a UserError if
    the decoder is not installed."""
    cfg = with_preprocessing(cfg)
    data = cfg.data
    FrameSource.named(data.decoder).check_installed()
    choose = FrameChooser("test", data.num_segments, data.seg_length, data.dense, rule=data.frame_rule)
    return WindowReader(choose, EvalTransform(first_resize(cfg), input_size(cfg)), data.decoder)
