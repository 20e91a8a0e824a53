"""The one way in which this project opens a video file."""

from pathlib import Path

import av
from av.container import InputContainer


def open_local(path: str | Path) -> InputContainer:
    """The container of a local file, opened so that no name or content is taken for a network address or another of
    FFmpeg's protocols. Titles and the like need not be UTF-8: nothing reads them.

    Raises:
        av.FFmpegError, OSError: it cannot be opened, or is no container that FFmpeg knows.
    """
    return av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
