"""Limits on uploaded videos, checked before anything is decoded."""

from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from datasets.video_file import open_container
from utils.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
# FFmpeg's names of the containers with these extensions. Playlists that refer to other files are not included.
_CONTAINERS = {"mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "gif"}
MAX_PIXELS = 4096 * 2304
"""Maximum size of a frame; the widest form of 4K."""

RECORD_LONGER = "record for at least a second"  # browsers end shorter recordings before there is a frame in them


class Limits(NamedTuple):
    """Limits of an uploaded video: file size in megabytes, length in seconds, frame size in pixels."""

    max_megabytes: float = 200
    max_seconds: float = 600
    max_pixels: int = MAX_PIXELS

    def describe(self) -> str:
        """One line for users."""
        kinds = ", ".join(suffix.removeprefix(".") for suffix in VIDEO_SUFFIXES)
        return f"Up to {self.max_megabytes:g} MB and {_length(self.max_seconds)}; {kinds}."


def check_upload(path: str | Path, limits: Limits) -> None:
    """Raise a UserError unless a file is a video within the limits, according to its header.

    Frames are not decoded, so the reader must still stop at `max_seconds`, because the header may be wrong.
    """
    path = Path(path)
    name = path.name
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        kinds = ", ".join(suffix.removeprefix(".") for suffix in VIDEO_SUFFIXES)
        raise UserError(f"{name}: unsupported file type; use one of {kinds}")
    if not path.is_file():
        raise UserError(f"{name}: is no longer available; upload it again")
    if path.stat().st_size == 0:
        raise UserError(f"{name}: is empty; upload it again, or {RECORD_LONGER}")
    megabytes = path.stat().st_size / 1e6
    if megabytes > limits.max_megabytes:
        raise UserError(f"{name}: has {megabytes:.0f} MB, more than {limits.max_megabytes:g}; shorten or compress it")
    try:
        with _open(path, name) as container:
            _check_container(container, name, limits)
    except (av.FFmpegError, OSError):
        raise UserError(f"{name}: is corrupted or not a video; upload another file, or {RECORD_LONGER}") from None


def _open(path: Path, name: str) -> InputContainer:
    try:
        return open_container(path, name)
    except UserError as error:  # of another container, such as a recording without its beginning
        raise UserError(f"{error}; upload another file, or {RECORD_LONGER}") from None


def _check_container(container: InputContainer, name: str, limits: Limits) -> None:
    stream = container.streams.best("video")
    is_supported = _CONTAINERS.intersection(container.format.name.split(","))
    if not is_supported or not isinstance(stream, VideoStream) or stream.codec_context is None:
        raise UserError(f"{name}: contains no video that can be decoded; upload another file")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > limits.max_pixels:
        raise UserError(f"{name}: its frames have {width}x{height} pixels, more than the limit; make them smaller")
    seconds = max(
        float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0,
        container.duration / av.time_base if container.duration else 0,
    )
    if seconds > limits.max_seconds:
        raise UserError(f"{name}: lasts {_length(seconds)}, longer than {_length(limits.max_seconds)}; shorten it")


def _length(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
