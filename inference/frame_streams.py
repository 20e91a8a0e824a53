"""The frames of a video file, folder, camera or URL in order, with their times.

Times are exact fractions of a second from the first frame on.

Legend: C=3 channels, H,W image.
"""

import re
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.stream import VideoStream

from datasets.frame_clock import FrameClock, timed
from datasets.frame_conversion import FrameConverter
from datasets.frame_source import FrameSource
from datasets.image_decoding import MAX_PIXELS
from datasets.packed_clip import is_packed_clip
from datasets.readers import open_video
from datasets.video_decoder import PixelLimit, VideoDecoder
from datasets.video_file import CONTAINERS
from inference.frames import Source
from inference.video_inputs import is_live
from utils.errors import UserError, first_line

FOLDER_FPS = 25
"""Default frame rate of a folder of frames."""
_NETWORK_TIMEOUT_SECONDS = 10.0
_NETWORK_PROTOCOLS = "http,https,tcp,tls,udp,rtp,rtsp,rtmp,rtmps,rtmpt,srt,crypto,httpproxy"
_STREAM_CONTAINERS = (*CONTAINERS, "hls", "rtsp", "sdp", "rtp", "mpjpeg", "live_flv")


class ShownFrame(NamedTuple):
    """A frame shown from `begin` to `end` (seconds); `pixels` returns it as uint8 (C,H,W)."""

    begin: Fraction
    end: Fraction
    pixels: Callable[[], torch.Tensor]


def measure_seconds(source: Source, fps: float = FOLDER_FPS) -> Fraction | None:
    """Duration of frames or of a video file, from its packets; None for live sources.

    Raises:
        UserError: it is missing, truncated or not a video.
    """
    if isinstance(source, FrameSource):
        return source.num_frames / Fraction(str(fps))
    if is_live(source):
        return None
    with _open_file(source) as video:
        return video.seconds


def open_whole(source: Source, decoder: str, max_pixels: int = MAX_PIXELS) -> FrameSource:
    """Open a video file, or frames, for random access.

    Args:
        decoder: decoder of video files, as in `data.decoder`.
        max_pixels: maximum number of pixels of a frame, for decoders that support a limit (`takes_max_pixels`).
    """
    if isinstance(source, FrameSource):
        return source
    path = Path(str(source))
    reader: Any = FrameSource.named(decoder)
    if reader.takes_max_pixels and not is_packed_clip(path):
        return reader(path, max_pixels=max_pixels)
    return open_video(path, decoder)


def frames_of(source: Source, fps: float, max_pixels: int = MAX_PIXELS) -> Iterator[ShownFrame]:
    """Every frame of a file, or of frames at `fps`, in order. Raises the errors of `VideoDecoder`."""
    if isinstance(source, FrameSource):
        step = 1 / Fraction(str(fps))
        for index in range(source.num_frames):
            yield ShownFrame(index * step, (index + 1) * step, lambda i=index: source.read(np.array([i]))[0])
        return
    with _open_file(source, max_pixels) as video:
        for image, begin, end in video.timed_frames():
            yield ShownFrame(begin, end, lambda image=image: _as_tensor(video.to_rgb(image)))


def live_frames(source: str, max_seconds: float | None, max_pixels: int = MAX_PIXELS) -> Iterator[ShownFrame]:
    """Frames of a camera or URL until it ends, or for `max_seconds`. Lost network packets are not errors, but frames of
    more than `max_pixels` are."""
    is_camera = re.fullmatch(r"\d+", source) is not None
    name = f"camera {source}" if is_camera else source
    try:
        container = _open_camera(int(source)) if is_camera else _open_url(source)
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{name}: could not be opened ({_reason(error)}); check the camera or the URL") from None
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            raise UserError(f"{name}: contains no video stream that can be decoded")
        limit = PixelLimit(stream.codec_context, name, max_pixels)
        assert stream.time_base is not None
        clock = FrameClock(stream.time_base, stream.average_rate or stream.guessed_rate)
        converter = FrameConverter()
        try:
            for image, begin, end in timed((f for f in container.decode(stream) if not f.is_corrupt), clock):
                if max_seconds is not None and begin >= max_seconds:
                    return
                converter.begin(image)
                yield ShownFrame(begin, end, lambda image=image: _as_tensor(converter.to_rgb(image)))
        except av.FFmpegError as error:
            stream_error = UserError(f"{name}: the stream ended with an error ({_reason(error)})")
            raise limit.fault() or stream_error from None


def _open_file(source: str | Path | int, max_pixels: int = MAX_PIXELS) -> VideoDecoder:
    path = Path(str(source))
    if not path.is_file():
        raise UserError(f"{path}: no such video file or folder of frames")
    return VideoDecoder(path, max_pixels=max_pixels)


def _open_camera(number: int) -> InputContainer:
    if sys.platform == "darwin":
        return av.open(str(number), format="avfoundation", options={"framerate": "30"})
    if sys.platform == "linux":
        return av.open(f"/dev/video{number}", format="v4l2")
    raise UserError(
        f"camera {number}: camera numbers are supported on Linux and macOS; use the URL of a stream instead"
    )


def _open_url(url: str) -> InputContainer:
    is_file = url.lower().startswith("file:")
    options = {
        "protocol_whitelist": "file" if is_file else _NETWORK_PROTOCOLS,
        "format_whitelist": ",".join(CONTAINERS if is_file else _STREAM_CONTAINERS),
    }
    if url.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    return av.open(url, options=options, timeout=_NETWORK_TIMEOUT_SECONDS, metadata_errors="replace")


def _as_tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)
