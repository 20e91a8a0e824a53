"""The video decoder for training, tools and prediction.

The frames of a video are those that ffmpeg outputs, in presentation order: without frames hidden by an edit list, and
without undecodable frames before the first keyframe of a stream that starts in the middle. The display matrix (rotation
and mirroring) is applied, and all frames are scaled to the size of the first. Non-square pixels and interlaced fields
are decoded as stored. Corrupted frames are errors, while ffmpeg would conceal them.

Legend: H,W image. Frame i is the i-th frame of that order.

`frames` decodes all frames in sequence. `frames_at` decodes as few as possible: if the container has presentation
timestamps, they map packets to frames, so decoding starts at the last keyframe before a requested frame, skips
non-reference frames, and ends at the packet of the last requested frame. If a requested frame is not output (in open
GOPs a frame may refer to skipped ones), everything is decoded in sequence, which also raises errors.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from datasets.frame_clock import FrameClock, TimedFrame, presentation_stamp, timed
from datasets.frame_conversion import FrameConverter, Orientation
from datasets.image_decoding import MAX_PIXELS
from datasets.video_file import NO_TIME, VideoFile
from utils.errors import UserError

# Containers with correct presentation timestamps, and codecs whose packets are all frames. With others (AVI has no
# presentation timestamps, VP8 has packets without a frame) frames are counted by decoding.
_TIMED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
_FRAME_PER_PACKET_CODECS = {"h264", "hevc", "vp9", "av1", "libdav1d", "mpeg4", "mjpeg"}
_GPU_CODECS = _FRAME_PER_PACKET_CODECS - {"mpeg4", "mjpeg"}
_EMPTY_MPEG4_BYTES = 16
"""A smaller packet of MPEG-4 part 2 means that nothing changed, and outputs no frame."""

_MAX_KEPT_BYTES = 64 * 2**20
"""Memory for frames kept from counting: about 500 frames of 340x256 pixels."""


class PixelLimit:
    """Opens a decoder, single-threaded, that refuses every frame of more than `max_pixels`.

    Args:
        name: name of the source in messages.
        options: further options of the decoder.

    Raises:
        UserError: the header declares more.
    """

    def __init__(self, decoder: VideoCodecContext, name: str, max_pixels: int, **options: str):
        self._decoder, self._name, self._max_pixels = decoder, name, max_pixels
        self._has_size = decoder.width * decoder.height > 0
        if decoder.width * decoder.height > max_pixels:
            raise self._too_large()
        # With FFmpeg's threads, closing a decoder before the end of the file can hang (seen with PyAV 17).
        decoder.thread_count = 1
        decoder.options = {**options, "max_pixels": str(max_pixels)}
        # Opened before the first packet, because libdav1d reads skip_frame only then.
        decoder.open(strict=False)

    def _too_large(self) -> UserError:
        width, height = self._decoder.width, self._decoder.height
        size = f"{width}x{height} pixels, more than" if width * height > 0 else "more pixels than"
        return UserError(
            f"{self._name}: a frame has {size} the limit of {self._max_pixels}; the file is corrupted, or must be made "
            "smaller"
        )

    def fault(self) -> UserError | None:
        """The error, after one of decoding, if a frame was too large, which FFmpeg does not report: the size of the
        decoder is then that of the frame, or 0."""
        num_pixels = self._decoder.width * self._decoder.height
        return self._too_large() if num_pixels > self._max_pixels or (num_pixels == 0 and self._has_size) else None


def _decoding_stamp(frame: av.VideoFrame) -> int | None:
    return frame.dts


def _no_stamp(_: av.VideoFrame) -> None:
    return None


class VideoDecoder:
    """A video file with a single-threaded FFmpeg decoder. A context manager that closes the file.

    Frames of more than `max_pixels` are an error. Raises a UserError, see `VideoFile`; corrupted frames raise one when
    they are decoded.
    """

    def __init__(self, path: str | Path, listed_at: str = "", max_pixels: int = MAX_PIXELS):
        self.file = VideoFile(path, listed_at)
        self.name = self.file.name
        decoder = self.file.stream.codec_context
        assert decoder is not None
        self._decoder = decoder
        self._converter = FrameConverter()
        self._kept: list[av.VideoFrame] | None = None
        self._count: int | None = None
        self.num_left_out = 0  # packets before the first keyframe that could not be decoded
        self.num_jumps = 0
        try:
            # Corrupted frames are errors; by default FFmpeg conceals them.
            self._limit = PixelLimit(self._decoder, self.name, max_pixels, err_detect="explode")
            self._order_frames()
        except av.FFmpegError as error:
            self.close()
            raise self.file.unreadable(error) from None
        except UserError:
            self.close()
            raise

    def _order_frames(self) -> None:
        """Set `_times`, the timestamp of each frame, if it can be derived from the packets."""
        file = self.file
        shown = np.flatnonzero(~file.is_hidden)
        order = np.argsort(file.pts[shown], kind="stable")
        times = file.pts[shown][order]
        self._times: np.ndarray | None = None
        if self._has_frame_per_packet() and self._are_distinct(times) and not self._are_in_decoding_order():
            self._times = times
            self._position_of = shown[order]
            self._keyframes = np.flatnonzero(file.is_key & ~file.is_hidden)
            self._keyframe_indices = np.searchsorted(times, file.pts[self._keyframes])
            self._count = len(times)

    def _has_frame_per_packet(self) -> bool:
        """Whether container and codec have a timestamp and a frame for each packet."""
        file = self.file
        has_empty_packets = self._decoder.name == "mpeg4" and file.smallest < _EMPTY_MPEG4_BYTES
        return (
            file.stream.container.format.name in _TIMED_CONTAINERS
            and self._decoder.name in _FRAME_PER_PACKET_CODECS
            and not has_empty_packets
        )

    def _are_distinct(self, times: np.ndarray) -> bool:
        """Whether ascending timestamps of shown packets are known, distinct, and not before the first keyframe, since
        such frames may or may not be output."""
        file = self.file
        return (
            len(times) > 0
            and NO_TIME not in (times[0], file.pts[0])
            and bool((times[1:] > times[:-1]).all())
            and bool(file.is_key[0])
            and times[0] >= file.pts[0]
        )

    @property
    def num_frames(self) -> int:
        """The number of frames, counted by decoding if necessary, which may raise a UserError."""
        if self._count is None:
            kept, kept_bytes, count = [], 0, 0
            for frame in self.frames():
                count += 1
                kept_bytes += sum(plane.buffer_size for plane in frame.planes)
                if kept_bytes > _MAX_KEPT_BYTES:
                    kept.clear()
                else:
                    kept.append(frame)
            self._kept = kept if len(kept) == count else None
            self._count = count
        return self._count

    def frame_times(self) -> np.ndarray:
        """float64 (num_frames,): times in seconds from the first frame; evenly spaced if unknown without decoding."""
        if self._times is None:
            return np.arange(self.num_frames) * (float(self.seconds) / self.num_frames)
        clock = self._new_clock()
        times = np.array([float(clock.time_of(stamp)) for stamp in self._times.tolist()])
        return times - times[0]

    @property
    def seconds(self) -> Fraction:
        """Duration in seconds from the timestamps of the packets, which may be approximate."""
        clock, file = self._new_clock(), self.file
        stamps = self._times
        if stamps is None:
            begin = int(file.is_key.argmax())  # frames before the first keyframe may not be shown
            stamps = np.where(file.dts == NO_TIME, file.pts, file.dts)[begin:]
        for stamp in stamps.tolist():
            clock.time_of(stamp if self.file.has_timestamps and stamp != NO_TIME else None)
        return clock.end()

    def frames(self) -> Iterator[av.VideoFrame]:
        """All frames in order, decoded in sequence. Raises a UserError if a frame is corrupted, frames are missing, or
        there are none."""
        count = 0
        try:
            for frame in self._decode_all():
                if self._times is not None and (count >= len(self._times) or frame.pts != self._times[count]):
                    break
                self._converter.begin(frame)
                yield frame
                count += 1
        except av.FFmpegError as error:
            raise self._limit.fault() or self.file.unreadable(error) from None
        if self._times is not None and count < len(self._times):
            raise UserError(
                f"{self.name}: is corrupted: {count} of {len(self._times)} frames could be decoded; encode the video "
                "again or remove it from the list"
            )
        if count == 0:
            raise UserError(f"{self.name}: no frame could be decoded; the file is corrupted or has no frames")

    def timed_frames(self) -> Iterator[TimedFrame]:
        """All frames in order with their times. Raises errors like `frames`."""
        clock = self._new_clock()
        stamp_of = presentation_stamp
        if not self.file.has_timestamps:
            stamp_of = _no_stamp
        elif self.file.stream.container.format.name == "avi" or self._are_in_decoding_order():
            stamp_of = _decoding_stamp  # an AVI only has these, which FFmpeg also returns as presentation timestamps
        yield from timed(self.frames(), clock, stamp_of)
        self.num_jumps = clock.num_jumps

    def frames_at(self, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """Index and frame for all indices `wanted`; some are returned twice if seeking misses others. `wanted`:
        distinct ascending indices."""
        if self._count is None:
            self._count = self.num_frames
        if self._kept is not None:
            yield from ((index, self._kept[index]) for index in wanted.tolist())
            return
        if self._times is not None:
            missing = set(wanted.tolist())
            try:
                for index, frame in self._decode_by_jumps(wanted):
                    if index in missing:
                        missing.remove(index)
                        yield index, frame
                if not missing:
                    return
            except (av.FFmpegError, UserError):
                pass  # a corrupted frame, or an effect of seeking; decoding in sequence shows which
        targets = set(wanted.tolist())
        for index, frame in enumerate(self.frames()):
            if index in targets:
                yield index, frame
            if index == wanted[-1]:
                return

    def stamps(self, wanted: np.ndarray) -> tuple[list[tuple[int, bool]], np.ndarray] | None:
        """What a decoder on a GPU needs to find frames: (timestamp, is keyframe) of all keyframes, of the frames at
        `wanted` and of those before them, ascending, and the positions of the frames at `wanted`. Where two of them
        follow each other, so do the frames, which torchcodec relies on. Decodes the first frame, for `size`.

        None if it might output others: frames without timestamps, codecs or pixels that not all GPUs decode (8 bits in
        4:2:0 are decoded by all), frames that are interlaced, or stored rotated or mirrored.
        """
        if self._times is None or self._decoder.name not in _GPU_CODECS:
            return None
        first = next(self.frames())
        if first.format.name != "yuv420p" or first.interlaced_frame or Orientation.of(first) != Orientation():
            return None
        keys = self.file.pts[self._keyframes]
        pts = np.union1d(keys, self._times[np.append(wanted, np.maximum(wanted - 1, 0))])
        places = np.searchsorted(pts, self._times[wanted])
        return list(zip(pts.tolist(), np.isin(pts, keys).tolist())), places

    def _decode_by_jumps(self, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """Index and frame with as little decoding as possible; some may be missing."""
        if self._converter.size is None and wanted[0] != 0:
            wanted = np.append(0, wanted)  # the first frame determines the size
        assert self._times is not None
        index_at = dict(zip(self._times[wanted].tolist(), wanted.tolist()))
        for first_packet, last_packet, times in self._stretches(wanted):
            self._decoder.flush_buffers()
            was_skipping, latest = None, NO_TIME
            for packet in chain(islice(self.file.packets(first_packet), last_packet + 1 - first_packet), (None,)):
                skips = packet is not None and packet.pts not in times
                if skips != was_skipping:
                    self._decoder.skip_frame = "NONREF" if skips else "DEFAULT"
                    was_skipping = skips
                for frame in self._decoder.decode(packet):
                    self._check(frame)
                    if frame.pts is None or frame.pts < latest:
                        return  # frames are not output in the order of their timestamps
                    latest = frame.pts
                    if frame.pts in times:
                        index = index_at[frame.pts]
                        if index == 0:
                            self._converter.begin(frame)
                        yield index, frame

    def _stretches(self, wanted: np.ndarray) -> list[tuple[int, int, set[int]]]:
        """Ranges to decode: positions of the first (a keyframe) and last packet, and times of the requested frames."""
        assert self._times is not None
        # Frames before the first shown keyframe, if there is one, are decoded from the first packet on.
        starts = np.append(0, self._keyframes)
        keyframes = starts[np.searchsorted(self._keyframe_indices, wanted, side="right")]
        stretches: list[tuple[int, int, set[int]]] = []
        for time, position, keyframe in zip(
            self._times[wanted].tolist(), self._position_of[wanted].tolist(), keyframes.tolist()
        ):
            if stretches and keyframe <= stretches[-1][1] + 1:  # seeking would skip nothing
                first, last, times = stretches.pop()
                stretches.append((first, max(last, position), times | {time}))
            else:
                stretches.append((keyframe, position, {time}))
        return stretches

    def _decode_all(self) -> Iterator[av.VideoFrame]:
        """All frames in output order, from the first packet.

        A stream may start before its first keyframe, and later frames may refer to frames before it: those that cannot
        be decoded are dropped and counted, as by ffmpeg. For the first frame shown later than such a keyframe, H.264
        decoders may report that frames to release are missing, but decode it; `frames` checks that it is output.
        """
        self._decoder.flush_buffers()
        self._decoder.skip_frame = "DEFAULT"
        self.num_left_out, has_begun, first_key = 0, False, None
        leads_to = None  # time of the first keyframe, until a packet with a later time
        for packet in chain(self.file.packets(), (None,)):
            stamp = None if packet is None else packet.pts
            is_first_later = stamp is not None and leads_to is not None and stamp > leads_to
            if packet is not None and packet.is_keyframe and not has_begun:
                has_begun, leads_to, first_key = True, packet.pts, packet
            elif packet is None or is_first_later:
                leads_to = None
            try:
                frames = self._decoder.decode(packet)
            except av.FFmpegError:
                if is_first_later and first_key is not None and self._starts_open_gop(first_key):
                    continue
                if has_begun and (packet is None or leads_to is None or packet.is_keyframe):
                    raise
                self.num_left_out += 1
                continue
            for frame in frames:
                if has_begun or not frame.is_corrupt:
                    self._check(frame)
                    has_begun = True
                    yield frame

    def _starts_open_gop(self, keyframe: av.Packet) -> bool:
        """Whether a keyframe is H.264 without an IDR slice (NAL unit type 5), so that later frames may refer to earlier
        ones. False for containers without timestamps; the others store sizes of 4 bytes (ISO/IEC 14496-15)."""
        if self._decoder.name != "h264" or self._times is None:
            return False
        data, position = bytes(keyframe), 0
        while position + 4 < len(data) and data[position + 4] & 31 != 5:
            position += 4 + int.from_bytes(data[position : position + 4], "big")
        return position + 4 >= len(data)

    def to_rgb(self, frame: av.VideoFrame, size: tuple[int, int] | None = None) -> np.ndarray:
        """(H,W,3) uint8 RGB of a frame, upright, scaled to `size` (width, height); None: that of the first frame."""
        return self._converter.to_rgb(frame, size)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright first frame, after it was decoded."""
        assert self._converter.size is not None, f"{self.name}: the first frame was not decoded yet"
        return self._converter.size

    def notes(self) -> str:
        """Notes about a decoded video for a report, after `frames` or `timed_frames` has ended."""
        notes = []
        if self.num_left_out:
            notes.append(f"{self.num_left_out} packets before the first keyframe could not be decoded")
        if self.num_jumps:
            notes.append(f"the timestamps jump {self.num_jumps} times; the frame rate was used instead")
        if not self.file.has_timestamps:
            notes.append(
                f"the file has no timestamps; its frame rate of {float(1 / self._new_clock().step):g} was used"
            )
        return "; ".join(notes)

    def _are_in_decoding_order(self) -> bool:
        """Whether the presentation timestamps are those of decoding, although frames are output in another order."""
        return self._decoder.has_b_frames and bool((self.file.pts == self.file.dts).all())

    def _new_clock(self) -> FrameClock:
        stream = self.file.stream
        assert stream.time_base is not None
        # Without timestamps, `average_rate` may be the demuxer's default, although the codec's headers have a rate.
        rates = (stream.average_rate, stream.guessed_rate)
        rate = (rates[0] or rates[1]) if self.file.has_timestamps else (rates[1] or rates[0])
        return FrameClock(stream.time_base, rate)

    def _check(self, frame: av.VideoFrame) -> None:
        if frame.is_corrupt:
            raise UserError(f"{self.name}: the decoder reports a corrupted frame; encode the video again")

    def close(self) -> None:
        """Close the decoder and the file."""
        self._kept = None
        self.file.close()

    def __enter__(self) -> "VideoDecoder":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
