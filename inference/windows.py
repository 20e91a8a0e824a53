"""Clips for a prediction: a video, folder of frames, camera or stream, as a whole or in windows that slide over it.

A short video is sampled as test.py samples it, so its embedding is the same. A long one is decoded once from beginning
to end; of each window only the frames that it needs are kept, at the size that the model sees, so that memory does not
grow with the video. Times are exact fractions of a second from the first frame.

Legend: T segments, L consecutive frames a segment, C=3 channels, H,W image, S input size.
"""

import itertools
import re
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch

from datasets.build import scale_size
from datasets.container_check import missing_bytes
from datasets.frame_source import FrameSource
from datasets.lists import ListEntry
from datasets.readers import check_decoder, open_source
from datasets.sampling import DENSE_WINDOW
from datasets.transforms import EvalTransform
from datasets.video_dataset import FrameChooser
from inference.frames import FrameArray, FrameFolder, Video, as_source
from inference.video_inputs import is_live, list_frames
from utils.errors import UserError, first_line
from utils.interval import check_times
from utils.local_video import open_local

WHOLE_SECONDS = 30
"""A video up to this long is one clip where no window is asked for."""
WINDOW_SECONDS = 10
"""Length of a window where none is asked for: that of a Kinetics clip, on which the published models were trained."""
FOLDER_FPS = 25
"""Frames a second of a folder of frames, whose files do not say."""
_NETWORK_TIMEOUT_SECONDS = 10.0


class Window(NamedTuple):
    """`clip`: uint8 (T*L,C,S,S), what the model sees of the seconds from `start` to `end`."""

    start: float
    end: float
    clip: torch.Tensor


class _Frame(NamedTuple):
    """A frame shown from `begin` to `end` (seconds); `pixels` gives it as uint8 (C,H,W)."""

    begin: Fraction
    end: Fraction
    pixels: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class WindowReader:
    """Reads what a model is to classify; `build_window_reader` makes one from a config.

    Attributes:
        choose_frames: test rule with one clip: number of frames, generator -> (T*L,) indices.
        transform: the test's, for one crop.
        decoder: of video files that are read as a whole.
    """

    choose_frames: FrameChooser
    transform: EvalTransform
    decoder: str = "pyav"

    def windows(
        self,
        source: Video,
        window: float | None = None,
        stride: float | None = None,
        *,
        fps: float = FOLDER_FPS,
        max_seconds: float | None = None,
    ) -> Iterator[Window]:
        """The clips of `source`, in order of time, each as soon as it is complete.

        Args:
            source: a video file, a folder of frames, the number of a camera, a URL, or an array of frames.
            window: seconds; a file that is not longer is one clip, sampled as test.py does it. 0: any file is one
                clip. None: windows of 10 s for what is longer than 30 s, and for cameras and URLs.
            stride: seconds from one window's start to the next one's; None: half a window.
            fps: frames a second of a folder or an array of frames.
            max_seconds: of a camera or URL, after which it ends.

        Raises:
            UserError: a length or rate that cannot be; it is missing, damaged or no video. What was read of a video
                before the damage has been given.
        """
        check_times(window, stride, fps, max_seconds)
        source = as_source(source)
        if not isinstance(source, FrameArray) and is_live(source):
            length, step = self._plan(window, stride, None)
            if not length:
                raise UserError(f"window 0: {source} has no end to wait for; give the window's seconds")
            yield from self._slide(_live_frames(source, max_seconds), length, step, None)
            return
        seconds = measure_seconds(source, fps)
        length, step = self._plan(window, stride, seconds)
        if not length:
            yield self._whole(source, seconds)
        else:
            yield from self._slide(_frames_of(source, fps), length, step, seconds)

    def num_windows(
        self, source: Video, window: float | None, stride: float | None, *, fps: float = FOLDER_FPS
    ) -> int | None:
        """How many clips `windows` will give; None where the length is not known. Raises as `windows`."""
        check_times(window, stride, fps)
        seconds = measure_seconds(as_source(source), fps)
        if seconds is None:
            return None
        length, step = self._plan(window, stride, seconds)
        return 1 - (length - seconds) // step if length else 1

    def _plan(self, window: float | None, stride: float | None, seconds: Fraction | None) -> tuple[Fraction, Fraction]:
        """Length and stride of the windows over so many seconds (None: unknown); length 0: one clip."""
        # A model of dense clips was trained on 128 frames at a time.
        usual = Fraction(DENSE_WINDOW, FOLDER_FPS) if self.choose_frames.dense else Fraction(WINDOW_SECONDS)
        length = usual if window is None else Fraction(str(window))
        if seconds is not None and seconds <= (WHOLE_SECONDS if window is None else length):
            length = Fraction(0)
        return length, length / 2 if stride is None else Fraction(str(stride))

    def _whole(self, source: str | Path | FrameArray, seconds: Fraction | None) -> Window:
        with _open_whole(source, self.decoder) as opened:
            frames = opened.read(self.choose_frames(opened.num_frames, np.random.default_rng(0)))
            seconds = Fraction(opened.num_frames, FOLDER_FPS) if seconds is None else seconds
        return Window(0.0, float(seconds), self._fit(frames))

    def _fit(self, frames: torch.Tensor) -> torch.Tensor:
        """(n,C,H,W) -> (n,C,S,S)."""
        return self.transform(frames[None], 0, np.random.default_rng(0))[0][0]

    def _slide(
        self, frames: Iterator[_Frame], length: Fraction, stride: Fraction, seconds: Fraction | None
    ) -> Iterator[Window]:
        """The windows that begin at `_starts`; at the end of the video, a shorter one over what is left."""
        num_segments, seg_length = self.choose_frames.num_segments, self.choose_frames.seg_length
        starts = _starts(length, stride, seconds)
        start = next(starts)
        open_windows: deque[_OpenWindow] = deque()
        covered_to = end = Fraction(0)
        for index, frame in enumerate(frames):
            while start < frame.end:
                open_windows.append(_OpenWindow(start, length, num_segments, seg_length))
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
        # Less than a sampling step is not worth a window, unless it is all there is.
        if open_windows and (covered_to == 0 or end - covered_to > length / num_segments):
            yield open_windows[0].finish(end)


class _OpenWindow:
    """A window whose frames are arriving. Segment i shows the frame that is on screen at start + i/T of the length,
    which at a constant frame rate is the frame that test.py's rule takes; then the L-1 frames after it."""

    def __init__(self, start: Fraction, length: Fraction, num_segments: int, seg_length: int):
        self.start, self.end = start, start + length
        self._targets = [start + length * i / num_segments for i in range(num_segments)]
        self._seg_length = seg_length
        self._clip: list[torch.Tensor | None] = [None] * (num_segments * seg_length)
        self._next = 0
        self._slots_at: dict[int, list[int]] = defaultdict(list)

    def slots_of(self, index: int, frame: _Frame) -> list[int]:
        """Places in the clip that frame number `index` goes to."""
        while self._next < len(self._targets) and self._targets[self._next] < frame.end:
            for offset in range(self._seg_length):
                self._slots_at[index + offset].append(self._next * self._seg_length + offset)
            self._next += 1
        return self._slots_at.get(index, [])

    def take(self, index: int, pixels: torch.Tensor) -> None:
        for slot in self._slots_at.pop(index, []):
            self._clip[slot] = pixels

    def finish(self, end: Fraction) -> Window:
        """The clip; where the video ended before it was full, its frames spread over it, in order."""
        frames = [pixels for pixels in self._clip if pixels is not None]
        places = np.arange(len(self._clip)) * len(frames) // len(self._clip)
        return Window(float(self.start), float(end), torch.stack([frames[place] for place in places]))


def _starts(length: Fraction, stride: Fraction, seconds: Fraction | None) -> Iterator[Fraction]:
    """0, stride, 2 stride ...; where the video's length is known, also the start of the window that ends with it."""
    last = None if seconds is None else max(Fraction(0), seconds - length)
    for count in itertools.count():
        start = count * stride
        if last is not None and start >= last:
            yield last
            is_last, last = start == last, None
            if is_last:
                continue
        yield start


def measure_seconds(source: str | Path | int | FrameArray, fps: float = FOLDER_FPS) -> Fraction | None:
    """Length of frames or a video file, as its header says it, else from its packets; None: live.

    Raises:
        UserError: it is missing, truncated or no video.
    """
    if isinstance(source, FrameArray):
        return source.num_frames / Fraction(str(fps))
    if is_live(source):
        return None
    path = Path(source)
    if path.is_dir():
        return len(list_frames(path)) / Fraction(str(fps))
    with _open_file(path) as container:
        stream = container.streams.best("video")
        if stream.duration:
            return stream.duration * stream.time_base
        if container.duration:
            return Fraction(container.duration, av.time_base)
        ends = [p.pts + (p.duration or 0) for p in container.demux(stream) if p.pts is not None]
        return (max(ends) - (stream.start_time or 0)) * stream.time_base if ends else None


def _open_whole(source: str | Path | FrameArray, decoder: str) -> FrameSource:
    if isinstance(source, FrameArray):
        return source
    path = Path(source)
    if path.is_dir():
        return FrameFolder(path)
    return open_source(path.parent, ListEntry(path.name, None, 0, 0), modality="video", decoder=decoder)


def _frames_of(source: str | Path | FrameArray, fps: float) -> Iterator[_Frame]:
    """Every frame of an array, a folder or a file in order; `fps` is of the first two."""
    if not isinstance(source, FrameArray) and not Path(source).is_dir():
        yield from _file_frames(Path(source))
        return
    images, step = source if isinstance(source, FrameArray) else FrameFolder(Path(source)), 1 / Fraction(str(fps))
    for index in range(images.num_frames):
        yield _Frame(index * step, (index + 1) * step, lambda i=index: images.read(np.array([i]))[0])


def _file_frames(path: Path) -> Iterator[_Frame]:
    """Every frame of a file in order."""
    with _open_file(path) as container:
        stream = container.streams.best("video")
        # FFmpeg's own threads can wait for ever on a decoder that is closed before the file's end (seen with PyAV 17).
        stream.codec_context.thread_count = 1
        # Stop at damage where FFmpeg would guess pixels from the neighbourhood.
        stream.codec_context.options = {"err_detect": "explode"}
        try:
            for item in _timed(container.decode(stream), stream):
                if item[0].is_corrupt:
                    raise UserError(f"{path}: damaged, the decoder marks a frame as corrupt; encode the video again")
                yield _as_frame(*item)
        except av.FFmpegError as error:
            raise UserError(f"{path}: cannot be decoded ({_reason(error)}); the file is damaged") from None


def _open_file(path: Path) -> av.container.InputContainer:
    """The container of a local file that has a video stream and is whole. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such video file or folder of frames")
    try:
        container = open_local(path)
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be decoded ({_reason(error)}); the file is damaged or not a video") from None
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        container.close()
        raise UserError(f"{path}: no video stream that can be decoded")
    if missing_bytes(path):
        container.close()
        raise UserError(f"{path}: the file is truncated; copy or download it again")
    return container


def _live_frames(source: str | int, max_seconds: float | None) -> Iterator[_Frame]:
    """Frames of a camera or URL until it ends, or `max_seconds`. Lost packets of a network are no fault here."""
    is_camera = re.fullmatch(r"\d+", str(source)) is not None
    name = f"camera {source}" if is_camera else str(source)
    try:
        container = _open_camera(int(source)) if is_camera else _open_url(name)
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{name}: cannot be opened ({_reason(error)}); check the camera or the address") from None
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            raise UserError(f"{name}: no video stream that can be decoded")
        stream.codec_context.thread_count = 1
        try:
            for item in _timed((f for f in container.decode(stream) if not f.is_corrupt), stream):
                if max_seconds is not None and item[1] >= max_seconds:
                    return
                yield _as_frame(*item)
        except av.FFmpegError as error:
            raise UserError(f"{name}: the stream broke off ({_reason(error)})") from None


def _open_camera(number: int) -> av.container.InputContainer:
    if sys.platform == "darwin":
        return av.open(str(number), format="avfoundation", options={"framerate": "30"})
    if sys.platform == "linux":
        return av.open(f"/dev/video{number}", format="v4l2")
    raise UserError(f"camera {number}: cameras are opened by number on Linux and macOS; give a stream's URL instead")


def _open_url(url: str) -> av.container.InputContainer:
    options = {"rtsp_transport": "tcp"} if url.startswith("rtsp") else {}
    return av.open(url, options=options, timeout=_NETWORK_TIMEOUT_SECONDS, metadata_errors="replace")


def _timed(
    decoded: Iterator[av.VideoFrame], stream: av.VideoStream
) -> Iterator[tuple[av.VideoFrame, Fraction, Fraction]]:
    """Each frame with the times from and to which it is shown, from the first one's on; never backwards.

    A frame without a time follows the one before it by the frame rate, and so does the end of the last one.
    """
    step = 1 / Fraction(stream.average_rate or stream.guessed_rate or FOLDER_FPS)
    first_pts = previous = begin = None
    for frame in decoded:
        if frame.pts is None:
            time = Fraction(0) if previous is None else begin + step
        else:
            first_pts = frame.pts if first_pts is None else first_pts
            time = (frame.pts - first_pts) * frame.time_base
        if previous is not None:
            time = max(time, begin)
            yield previous, begin, time
        previous, begin = frame, time
    if previous is not None:
        yield previous, begin, begin + step


def _as_frame(frame: av.VideoFrame, begin: Fraction, end: Fraction) -> _Frame:
    def pixels() -> torch.Tensor:
        rgb = frame.to_ndarray(format="rgb24")
        if frame.rotation:
            rgb = np.rot90(rgb, round(frame.rotation / 90)).copy()  # both count counter-clockwise
        return torch.from_numpy(rgb).permute(2, 0, 1)

    return _Frame(begin, end, pixels)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


def build_window_reader(cfg) -> WindowReader:
    """What reads videos for a prediction: the test's frames and pixels, one view. Raises UserError without decoder."""
    data = cfg.data
    check_decoder(data.decoder)
    choose = FrameChooser("test", data.num_segments, data.seg_length, data.dense)
    return WindowReader(choose, EvalTransform(scale_size(cfg), data.input_size), data.decoder)
