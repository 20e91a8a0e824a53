"""A video file as a table of packets: what is known about its frames before decoding.

All packets are walked once at opening. Of a small file they are kept (a compressed stream is small); of a large one
only their times and kinds are, and the packets are read again where they are needed, so that memory follows the frames
that are wanted and not the file.
"""

from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from datasets.container_check import check_sample_tables, is_mp4, missing_bytes
from datasets.frame_source import describe
from utils.errors import UserError, first_line

# Faults reach the user as exceptions with FFmpeg's own words; its log on stderr would only repeat them.
av.logging.set_level(av.logging.PANIC)

# Names of FFmpeg's demuxers of files that hold their own frames. Playlists (hls, concat, dash, image2 ...) name other
# files or addresses and are none of them, whatever their suffix.
_MP4 = ("mov", "mp4", "m4a", "3gp", "3g2", "mj2")
_OTHER_CONTAINERS = (
    "matroska",
    "webm",
    "avi",
    "asf",
    "flv",
    "mpeg",
    "mpegts",
    "mpegvideo",
    "m4v",
    "h264",
    "hevc",
    "h263",
    "h261",
) + ("vc1", "obu", "ivf", "ogg", "gif", "mjpeg", "jpeg_pipe", "nut", "rm", "dv", "yuv4mpegpipe")
CONTAINERS = (*_MP4, *_OTHER_CONTAINERS)

MAX_PACKETS = 2**21
"""Of a video stream: 23 hours at 25 frames a second."""
MAX_SHARE_LOST = 0.02
"""Of the frames (or seconds) that a header promises: more than that missing means a truncated file; headers are no more
exact than that."""
NO_TIME = np.iinfo(np.int64).min

_WITH_DURATION = ("matroska,webm", "flv")
_KEPT_BYTES = 64 * 2**20
_BYTES_A_PACKET = 1024  # that a kept packet takes beside its content
_SEEK_SLACK = 10_000  # packets walked from where a seek lands before the file is read from its start instead


def open_container(path: str | Path, name: str) -> InputContainer:
    """The container of a local file: the one way in which this project opens a video.

    No name or content is taken for a network address, for another of FFmpeg's protocols or for a list of other files.
    Titles and the like need not be UTF-8: nothing reads them.

    Args:
        name: of the file, for messages.

    Raises:
        av.FFmpegError, OSError: it could not be opened, or is not a container of CONTAINERS.
        UserError: its index declares more frames than a file may have.
    """
    names = CONTAINERS
    if Path(path).is_file():
        if is_mp4(Path(path)):
            check_sample_tables(Path(path), name)
        else:
            names = _OTHER_CONTAINERS
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(names)}
    try:
        return av.open(f"file:{path}", options=options, metadata_errors="replace")
    except ValueError:  # EINVAL, whose class has another name in each version of PyAV
        raise UserError(
            f"{name}: could not be decoded (unsupported container); the file is corrupted or not a video"
        ) from None


class VideoFile:
    """An open video file: the packets of its best video stream, as ffmpeg chooses it, in the order of decoding.

    Args:
        path: the video file.
        listed_at: "list:line" for messages.

    Attributes:
        name: how messages name the file.
        stream: the best video stream; its decoder is not opened.
        pts: (n,) int64, times of showing in `stream.time_base`, or NO_TIME.
        dts: (n,) int64, times of decoding, or NO_TIME.
        is_key, is_hidden: (n,) bool; hidden packets are decoded and not shown (the edit list of an MP4).
        smallest: bytes of the smallest packet.

    Raises:
        UserError: for a missing or truncated file, one without a video stream, or with more than MAX_PACKETS packets.
    """

    def __init__(self, path: str | Path, listed_at: str = ""):
        self.name = describe(path, listed_at)
        self._path = Path(path)
        self._listed = bool(listed_at)
        self._containers: list[InputContainer] = []
        self._kept: list[av.Packet] | None = []
        try:
            self.stream = self._open()
            if self.stream.codec_context is None:  # the header is damaged, or this FFmpeg does not know the codec
                raise UserError(
                    f"{self.name}: could not be decoded (no decoder for its video stream); the file is corrupted, or "
                    "must be encoded again"
                )
            lost = missing_bytes(self._path)
            is_corrupt = self._read_table()
            if lost or is_corrupt:
                raise UserError(f"{self.name}: the file is truncated; copy or download it again")
            self._check_promise()
        except (av.FFmpegError, OSError) as error:
            self.close()
            raise self.unreadable(error) from None
        except UserError:
            self.close()
            raise

    def _open(self) -> VideoStream:
        self._containers.append(open_container(self._path, self.name))
        stream = self._containers[-1].streams.best("video")
        if not isinstance(stream, VideoStream):
            raise UserError(f"{self.name}: no video stream in the file")
        return stream

    def _read_table(self) -> bool:
        """Walks all packets; returns whether the last one is cut off."""
        pts, dts, kinds = array("q"), array("q"), bytearray()
        self.smallest, self._num_empty, kept_bytes, packet = 2**31, 0, 0, None
        for packet in self._packets_of(self._containers[0], self.stream):
            size = packet.size
            if len(kinds) == MAX_PACKETS:
                raise UserError(f"{self.name}: has more frames than the limit of {MAX_PACKETS}; cut it into parts")
            pts.append(NO_TIME if packet.pts is None else packet.pts)
            dts.append(NO_TIME if packet.dts is None else packet.dts)
            kinds.append(packet.is_keyframe | packet.is_discard << 1)
            self.smallest = min(self.smallest, size)
            kept_bytes += size + _BYTES_A_PACKET
            if self._kept is not None:
                self._kept.append(packet)
                if kept_bytes > _KEPT_BYTES:
                    self._kept = None
        self.pts, self.dts = np.frombuffer(pts, np.int64), np.frombuffer(dts, np.int64)
        kinds = np.frombuffer(kinds, np.uint8)
        self.is_key, self.is_hidden = (kinds & 1).astype(bool), (kinds & 2).astype(bool)
        return packet is not None and packet.is_corrupt

    def _packets_of(self, container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
        """All packets of the stream that hold something."""
        for packet in container.demux(stream):
            if packet.size > 0:
                yield packet
            elif packet.dts is not None or packet.pts is not None:  # a frame like the one before it
                self._num_empty += 1

    def _check_promise(self) -> None:
        """Raise UserError if the file has far fewer frames or seconds than its header says."""
        container = self._containers[0]
        if container.format.name == ",".join(_MP4):
            return  # its edit list may hide any share of the frames, and `missing_bytes` knows where its data end
        promised, present = self.stream.frames, len(self.pts) + self._num_empty
        if promised - present > max(1, MAX_SHARE_LOST * promised):
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
        """Where the data of the longest stream end: sound may outlast the picture."""
        end_s = 0.0
        with open_container(self._path, self.name) as container:
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
        # The seek landed behind it, or far before: some containers have no index.
        stream = self._open()
        yield from islice(self._packets_of(self._containers[-1], stream), first, None)

    def unreadable(self, error: Exception) -> UserError:
        """What the user reads of an exception of PyAV or of the file system."""
        if isinstance(error, FileNotFoundError):
            advice = "; check data.train_root or data.val_root and the list" if self._listed else ""
            return UserError(f"{self.name}: no such file{advice}")
        if isinstance(error, IsADirectoryError):
            return UserError(f"{self.name}: is a folder; for folders of frames set data.modality to RGB")
        if isinstance(error, MemoryError):
            return UserError(f"{self.name}: decoding it needs more memory than there is; make its frames smaller")
        reason = getattr(error, "strerror", None) or first_line(error)
        return UserError(f"{self.name}: could not be decoded ({reason}); the file is corrupted or not a video")

    def close(self) -> None:
        """Close the file and free what is kept of it."""
        self._kept = []
        while self._containers:
            self._containers.pop().close()
