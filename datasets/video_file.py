"""The packets of a video file, and the information about its frames before decoding.

All packets are read once when the file is opened. Those of a small file are kept; of a large file only their timestamps
and flags are, and packets are read again when needed, so that memory does not depend on the size of the file.
"""

from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from datasets.container_check import Layout, read_layout
from datasets.frame_source import describe
from utils.errors import UserError, first_line

# Errors are raised as exceptions with FFmpeg's messages, so its log on stderr would only repeat them.
av.logging.set_level(av.logging.PANIC)

# FFmpeg's demuxers of files that contain their frames. Playlists (hls, concat, dash, image2 ...), which refer to other
# files or URLs, are excluded whatever their extension.
_MP4 = ("mov", "mp4", "m4a", "3gp", "3g2", "mj2")
_OTHER_CONTAINERS = (
    *("matroska", "webm", "avi", "asf", "flv", "mpeg", "mpegts", "mpegvideo", "m4v", "h264", "hevc", "h263", "h261"),
    *("vc1", "obu", "ivf", "ogg", "gif", "mjpeg", "jpeg_pipe", "nut", "rm", "dv", "yuv4mpegpipe"),
)
CONTAINERS = (*_MP4, *_OTHER_CONTAINERS)

MAX_PACKETS = 2**21
"""Maximum number of packets of a video stream: 23 hours at 25 frames per second."""
MAX_SHARE_LOST = 0.02
"""If a larger share of the frames (or seconds) declared in the header is missing, the file is truncated; headers may be
slightly wrong."""
_FRAMES_LOST = 3  # AVI headers also count frames that an encoder with B-frames never wrote (Xvid)
NO_TIME = np.iinfo(np.int64).min

_WITH_DURATION = ("matroska,webm", "flv")
_KEPT_BYTES = 64 * 2**20
_BYTES_PER_PACKET = 1024  # overhead of a packet in memory
_SEEK_SLACK = 10_000  # packets to read after a seek before reading the file from its start instead


def open_container(path: str | Path, name: str, layout: Layout | None = None) -> InputContainer:
    """Open the container of a local video file; all videos are opened by this function.

    FFmpeg's network and other protocols are disabled, and so are lists of other files. Metadata need not be UTF-8,
    since it is not used. `layout`: that of the file, if it was read before.

    Raises:
        av.FFmpegError, OSError: it could not be opened, or the container is not in CONTAINERS.
        UserError: its index declares too many frames.
    """
    names = CONTAINERS if (layout or read_layout(Path(path), name)).may_be_mp4 else _OTHER_CONTAINERS
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(names)}
    try:
        return av.open(f"file:{path}", options=options, metadata_errors="replace")
    except ValueError:  # EINVAL, whose class name depends on the version of PyAV
        raise UserError(
            f"{name}: could not be decoded (unsupported container); the file is corrupted or not a video"
        ) from None


class VideoFile:
    """An open video file: the packets of its best video stream (as selected by ffmpeg), in decoding order.

    Attributes:
        stream: the best video stream; its decoder is not opened.
        pts: (n,) int64, presentation timestamps in `stream.time_base`, or NO_TIME.
        dts: (n,) int64, decoding timestamps, or NO_TIME.
        has_timestamps: whether frames have timestamps; equal ones of all frames count as none.
        is_key, is_hidden: (n,) bool; hidden packets are decoded but not shown (edit list of an MP4).
        smallest: bytes of the smallest packet.

    Raises:
        UserError: the file is missing or truncated, has no video stream, or has more than MAX_PACKETS packets.
    """

    def __init__(self, path: str | Path, listed_at: str = ""):
        self.name = describe(path, listed_at)
        self._path = Path(path)
        self._listed = bool(listed_at)
        self._containers: list[InputContainer] = []
        self._kept: list[av.Packet] | None = []
        try:
            self._layout = read_layout(self._path, self.name)
            self.stream = self._open()
            if self.stream.codec_context is None:  # the header is corrupted, or the codec is not supported
                raise UserError(
                    f"{self.name}: could not be decoded (no decoder for its video stream); the file is corrupted, or "
                    "must be encoded again"
                )
            is_corrupt = self._read_table()
            if not self.pts.size:
                raise UserError(f"{self.name}: its video stream has no frames; copy it again, or record for longer")
            if self._layout.missing_bytes or is_corrupt:
                raise UserError(f"{self.name}: the file is truncated; copy or download it again")
            self._check_header()
        except (av.FFmpegError, OSError) as error:
            self.close()
            raise self.unreadable(error) from None
        except UserError:
            self.close()
            raise

    def _open(self) -> VideoStream:
        self._containers.append(open_container(self._path, self.name, self._layout))
        stream = self._containers[-1].streams.best("video")
        if not isinstance(stream, VideoStream):
            raise UserError(f"{self.name}: no video stream in the file")
        if stream.disposition & Disposition.attached_pic:
            raise UserError(f"{self.name}: no video stream in the file, only a cover picture")
        return stream

    def _read_table(self) -> bool:
        """Read all packets; returns whether the last one is truncated."""
        pts, dts, kinds = array("q"), array("q"), bytearray()
        smallest, self._num_empty, kept_bytes, packet = 2**31, 0, 0, None
        for packet in self._packets_of(self._containers[0], self.stream):
            size = packet.size
            if len(kinds) == MAX_PACKETS:
                raise UserError(f"{self.name}: has more frames than the limit of {MAX_PACKETS}; split it")
            pts.append(NO_TIME if packet.pts is None else packet.pts)
            dts.append(NO_TIME if packet.dts is None else packet.dts)
            kinds.append(packet.is_keyframe | packet.is_discard << 1)
            if size < smallest:
                smallest = size
            kept_bytes += size + _BYTES_PER_PACKET
            if self._kept is not None:
                self._kept.append(packet)
                if kept_bytes > _KEPT_BYTES:
                    self._kept = None
        self.smallest = smallest
        self.pts, self.dts = np.frombuffer(pts, np.int64), np.frombuffer(dts, np.int64)
        stamps = np.where(self.pts == NO_TIME, self.dts, self.pts)
        self.has_timestamps = len(stamps) < 2 or bool((stamps != stamps[0]).any())
        kinds = np.frombuffer(kinds, np.uint8)
        self.is_key, self.is_hidden = (kinds & 1).astype(bool), (kinds & 2).astype(bool)
        return packet is not None and packet.is_corrupt

    def _packets_of(self, container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
        """All non-empty packets of the stream."""
        for packet in container.demux(stream):
            if packet.size > 0:
                yield packet
            elif packet.dts is not None or packet.pts is not None:  # a repeated frame
                self._num_empty += 1

    def _check_header(self) -> None:
        """Raise a UserError if the file has far fewer frames or seconds than its header says."""
        container = self._containers[0]
        if container.format.name == ",".join(_MP4):
            return  # its edit list may hide frames; truncation is detected by `read_layout`
        promised, present = self.stream.frames, len(self.pts) + self._num_empty
        if promised - present > max(_FRAMES_LOST, MAX_SHARE_LOST * promised):
            raise UserError(f"{self.name}: is truncated: {present} of {promised} frames could be read")
        if promised or not container.duration or container.format.name not in _WITH_DURATION:
            return
        promised_s = container.duration / av.time_base
        slack_s = max(0.5, MAX_SHARE_LOST * promised_s)
        start_s = (container.start_time or 0) / av.time_base
        if promised_s - (float(self.pts.max(initial=0) * self.stream.time_base) - start_s) > slack_s:
            end_s = self._data_end_s() - start_s
            if promised_s - end_s > slack_s:
                raise UserError(f"{self.name}: is truncated: {end_s:.2f} of {promised_s:.2f} s could be read")

    def _data_end_s(self) -> float:
        """End of the longest stream, since the audio may be longer than the video."""
        end_s = 0.0
        with open_container(self._path, self.name, self._layout) as container:
            for packet in container.demux():
                if packet.pts is not None:
                    end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        return end_s

    def packets(self, first: int = 0) -> Iterator[av.Packet]:
        """The packets from number `first` on, which is 0 or a keyframe."""
        if self._kept is not None:
            yield from islice(self._kept, first, None)
            return
        if first > 0 and self.pts[first] != NO_TIME:
            yield from self._packets_by_seeking(first)
            return
        stream = self._open()
        yield from islice(self._packets_of(self._containers[-1], stream), first, None)

    def _packets_by_seeking(self, first: int) -> Iterator[av.Packet]:
        container, target = self._containers[0], int(self.pts[first])
        container.seek(int(self.dts[first]) if self.dts[first] != NO_TIME else target, stream=self.stream)
        packets = self._packets_of(container, self.stream)
        for packet in islice(packets, _SEEK_SLACK):
            if packet.pts == target:
                yield packet
                yield from packets
                return
        # The seek ended after it or far before it, because some containers have no index.
        stream = self._open()
        yield from islice(self._packets_of(self._containers[-1], stream), first, None)

    def unreadable(self, error: Exception) -> UserError:
        """Convert an exception of PyAV or of the file system to a UserError."""
        if isinstance(error, FileNotFoundError):
            advice = "; check data.train_root or data.val_root and the list" if self._listed else ""
            return UserError(f"{self.name}: no such file{advice}")
        if isinstance(error, IsADirectoryError):
            return UserError(f"{self.name}: is a folder; for folders of frames set data.modality to RGB")
        if isinstance(error, PermissionError):
            return UserError(f"{self.name}: permission denied; change its mode, or that of a folder above it")
        if isinstance(error, MemoryError):
            return UserError(f"{self.name}: not enough memory to decode it; make its frames smaller")
        reason = getattr(error, "strerror", None) or first_line(error)
        return UserError(f"{self.name}: could not be decoded ({reason}); the file is corrupted or not a video")

    def close(self) -> None:
        """Close the file and release its packets."""
        self._kept = []
        while self._containers:
            self._containers.pop().close()
