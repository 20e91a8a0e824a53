"""Videos by PyAV (FFmpeg): the best video stream, frame-exact, as a full sequential decode would give them.

Frame i is the i-th frame that a decode of the whole stream puts out, turned upright where the container says that it
was stored sideways, as phones do (decord, with which the published figures were made, and torchcodec do the same).

All packets are demuxed at opening and kept (a compressed stream is small), so counting is exact whatever the header
says, and "seeking" is to feed the decoder from another packet. Where the container stores presentation times, those of
the packets say which frame comes out of which, and only what the wanted frames need is decoded: from the last keyframe
before a wanted frame on, without the frames that no other refers to (the decoder is told to skip those that are not
wanted), and to the packet of the last wanted frame, after which the decoder is drained. If a wanted frame does not come
out, or the decoder stops (in open groups of pictures a frame may refer to what a jump left out), the video is decoded
in sequence from its start, and errors are raised from there.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter

from datasets.container_check import missing_bytes
from datasets.frame_source import FrameSource, describe
from datasets.image_decoding import MAX_PIXELS
from utils.errors import UserError, first_line
from utils.local_video import open_local

# Faults reach the user as exceptions with FFmpeg's own words; its log on stderr would only repeat them.
av.logging.set_level(av.logging.PANIC)

# In these containers a packet has its true presentation time, and with these codecs a packet is a frame. Elsewhere (an
# AVI has no presentation times, VP8 has packets that show nothing) the frames are counted by decoding.
_TIMED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
_FRAME_PER_PACKET_CODECS = {"h264", "hevc", "vp9", "av1", "libdav1d", "mpeg4", "mjpeg"}

_MAX_KEPT_BYTES = 64 * 2**20
"""Frames kept from counting: some 500 of 340x256 pixels."""

# PyAV converts colours in one thread up to version 16, and in as many as there are cores from 17 on.
_ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


class PyAVVideo(FrameSource):
    """One video file, one single-threaded decoder.

    Args:
        path: the video file.
        listed_at: "list:line" for messages.

    Raises:
        UserError: for a missing, truncated or damaged file, one without a video stream or without frames. Damage inside
            a stream is found when the part that holds it is decoded.
    """

    def __init__(self, path: str | Path, listed_at: str = ""):
        self.name = describe(path, listed_at)
        self._container = None
        try:
            self._container = open_local(path)
            self._open_stream(Path(path))
        except (av.FFmpegError, OSError) as error:
            self.close()
            raise self._unreadable(error) from None
        except UserError:
            self.close()
            raise

    def _open_stream(self, path: Path) -> None:
        stream = self._container.streams.best("video")
        if stream is None:
            raise UserError(f"{self.name}: no video stream in the file")
        self._reformatter = VideoReformatter()
        self._decoder = stream.codec_context
        if self._decoder is None:  # the header is damaged, or this FFmpeg does not know the codec
            raise UserError(f"{self.name}: cannot be decoded (no decoder for its video stream); the file is damaged")
        self._decoder.thread_count = 1
        # Stop at damage where FFmpeg would guess pixels from the neighbourhood.
        self._decoder.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
        lost = missing_bytes(path)
        self._packets = [packet for packet in self._container.demux(stream) if packet.size > 0]
        if lost or (self._packets and self._packets[-1].is_corrupt):
            raise UserError(f"{self.name}: the file is truncated; copy or download it again")
        # Now, and not at the first packet: libdav1d reads skip_frame when it is opened, and never again.
        self._decoder.open(strict=False)
        self._index_frames()
        if self.num_frames == 0:
            raise UserError(f"{self.name}: the video stream holds no frames")

    def _index_frames(self) -> None:
        """Sets num_frames; where the packets' times tell the order of the frames, _times and _keyframes too."""
        shown = [packet for packet in self._packets if not packet.is_discard]
        times = sorted(packet.pts for packet in shown if packet.pts is not None)
        self._times: list[int] | None = None
        self._keyframes: list[tuple[int, int]] = []
        self._kept: list[av.VideoFrame] | None = None
        if (
            self._container.format.name in _TIMED_CONTAINERS
            and self._decoder.name in _FRAME_PER_PACKET_CODECS
            and len(shown) > 0
            and len(set(times)) == len(shown)
            # Else frames before the first keyframe may or may not come out.
            and self._packets[0].is_keyframe
            and all(packet.pts >= self._packets[0].pts for packet in shown)
        ):
            self._times = times
            index_of = {time: index for index, time in enumerate(times)}
            self._keyframes = [
                (index_of[packet.pts], position)
                for position, packet in enumerate(self._packets)
                if packet.is_keyframe and not packet.is_discard
            ]
            self._position_of = {packet.pts: position for position, packet in enumerate(self._packets)}
            self.num_frames = len(times)
        else:
            self.num_frames = self._count_by_decoding()

    def _count_by_decoding(self) -> int:
        """The number of frames that a decode puts out; the frames are kept while they are few, to decode only once."""
        kept, kept_bytes, count = [], 0, 0
        for frame in self._decode_from_start():
            count += 1
            kept_bytes += sum(plane.buffer_size for plane in frame.planes)
            if kept_bytes > _MAX_KEPT_BYTES:
                kept.clear()
            else:
                kept.append(frame)
        self._kept = kept if len(kept) == count else None
        self._decoder.flush_buffers()
        return count

    def _decode(self, wanted: np.ndarray, room: Callable[[int, int, int], torch.Tensor]) -> Iterator[int]:
        try:
            for index, frame in self._frames_at(wanted):
                rgb = self._to_rgb(frame)
                room(index, *rgb.shape[:2]).numpy()[:] = rgb
                yield index
        except av.FFmpegError as error:
            raise self._unreadable(error) from None

    def _frames_at(self, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """Index and frame of all at `wanted`; of some a second time, where jumps do not give all."""
        if self._kept is not None:
            yield from ((index, self._kept[index]) for index in wanted.tolist())
            return
        if self._times is not None:
            missing = set(wanted.tolist())
            try:
                for index, frame in self._decode_by_jumps(wanted):
                    missing.discard(index)
                    yield index, frame
                if not missing:
                    return
            except (av.FFmpegError, UserError):
                pass  # damage, or the jump's own fault: the decode in sequence tells them apart
        yield from self._decode_in_sequence(wanted)

    def _decode_by_jumps(self, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """Index and frame, by as little decoding as gives them; some may not come out."""
        index_at = {self._times[index]: index for index in wanted.tolist()}
        for first_packet, last_packet, times in self._stretches(wanted):
            self._decoder.flush_buffers()
            skips = None
            for packet in [*self._packets[first_packet : last_packet + 1], None]:
                if skips != (skips := packet is not None and packet.pts not in times):
                    self._decoder.skip_frame = "NONREF" if skips else "DEFAULT"
                for frame in self._decoder.decode(packet):
                    self._check(frame)
                    if frame.pts in times:
                        yield index_at[frame.pts], frame

    def _stretches(self, wanted: np.ndarray) -> list[tuple[int, int, set[int]]]:
        """Parts to decode: positions of the first (a keyframe) and last packet, and times of the wanted frames."""
        stretches: list[tuple[int, int, set[int]]] = []
        for index in wanted.tolist():
            time = self._times[index]
            position = self._position_of[time]
            keyframe = max((keyframe for keyframe in self._keyframes if keyframe[0] <= index), default=(0, 0))[1]
            if stretches and keyframe <= stretches[-1][1] + 1:  # a jump would skip nothing
                first, last, times = stretches.pop()
                stretches.append((first, max(last, position), times | {time}))
            else:
                stretches.append((keyframe, position, {time}))
        return stretches

    def _decode_in_sequence(self, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """Index and frame of all at `wanted`, counted in a decode from the start."""
        self._decoder.flush_buffers()
        self._decoder.skip_frame = "DEFAULT"
        targets, missing = set(wanted.tolist()), 0
        for index, frame in enumerate(self._decode_from_start()):
            if self._times is not None and (index >= self.num_frames or frame.pts != self._times[index]):
                break
            if index in targets:
                yield index, frame
                if index == wanted[-1]:
                    return
            missing = index + 1
        raise UserError(
            f"{self.name}: damaged, {self.num_frames} frames are promised and frame {missing} does not come out of the "
            "decoder; encode the video again or take it off the list"
        )

    def _to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """(H,W,3) uint8, upright. One reformatter for the clip: setting one up costs more than many conversions."""
        rgb = self._reformatter.reformat(frame, format="rgb24", **_ONE_THREAD).to_ndarray()
        return np.rot90(rgb, round(frame.rotation / 90)) if frame.rotation else rgb  # both count counter-clockwise

    def _decode_from_start(self) -> Iterator[av.VideoFrame]:
        """All frames in output order."""
        for packet in [*self._packets, None]:
            for frame in self._decoder.decode(packet):
                self._check(frame)
                yield frame

    def _check(self, frame: av.VideoFrame) -> None:
        if frame.is_corrupt:
            raise UserError(f"{self.name}: damaged, the decoder marks a frame as corrupt; encode the video again")

    def _unreadable(self, error: Exception) -> UserError:
        if isinstance(error, FileNotFoundError):
            return UserError(f"{self.name}: no such file; check data.train_root or data.val_root and the list")
        if isinstance(error, IsADirectoryError):
            return UserError(f"{self.name}: is a folder; for folders of frames set data.modality to RGB")
        reason = getattr(error, "strerror", None) or first_line(error)
        return UserError(f"{self.name}: cannot be decoded ({reason}); the file is damaged or not a video")

    def close(self) -> None:
        self._packets, self._kept = [], None
        self._decoder = None
        if self._container is not None:
            self._container.close()
            self._container = None
