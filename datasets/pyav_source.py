"""Videos by PyAV (FFmpeg): the best video stream, frame-exact, as a full sequential decode would give them.

Frame i is the i-th frame that a decode of the whole stream puts out. Frames are taken as coded: a rotation in the
container's metadata is not applied (nor by decord, with which the published figures were made).

All packets are demuxed at opening and kept (a compressed stream is small), so counting is exact whatever the header
says, and "seeking" is to feed the decoder from another packet. A jump is taken only to a keyframe that lies between the
frame just decoded and the next one wanted, and only where the container stores presentation times that say which frame
comes out; the times of all frames that follow are checked, and the video is decoded from its start if one is not as
expected.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter

from datasets.container_check import missing_bytes
from datasets.frame_source import FrameSource, check_same_size, describe
from utils.errors import UserError

# Faults reach the user as exceptions with FFmpeg's own words; its log on stderr would only repeat them.
av.logging.set_level(av.logging.PANIC)

# In these containers a packet has its true presentation time, and with these codecs a packet is a frame. Elsewhere (an
# AVI has no presentation times, VP8 has packets that show nothing) the frames are counted by decoding.
_TIMED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
_FRAME_PER_PACKET_CODECS = {"h264", "hevc", "vp9", "av1", "libdav1d", "mpeg4", "mjpeg"}

# The decoder has been fed about this many frames beyond the one it puts out: a jump over fewer saves nothing.
_REORDERED_FRAMES = 4

# PyAV converts colours in one thread up to version 16, and in as many as there are cores from 17 on.
_ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


class _OutOfStep(Exception):
    """After a jump, the decoder did not put out the frames that the packets' times promise."""


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
            # "file:", so that no name is taken for a network address or another of FFmpeg's protocols.
            self._container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
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
        self._decoder.thread_count = 1
        # Stop at damage where FFmpeg would guess pixels from the neighbourhood.
        self._decoder.options = {"err_detect": "explode"}
        lost = missing_bytes(path)
        self._packets = [packet for packet in self._container.demux(stream) if packet.size > 0]
        if lost or (self._packets and self._packets[-1].is_corrupt):
            raise UserError(f"{self.name}: the file is truncated; copy or download it again")
        self._index_frames()
        if self.num_frames == 0:
            raise UserError(f"{self.name}: the video stream holds no frames")

    def _index_frames(self) -> None:
        """Sets num_frames; where the packets' times tell the order of the frames, _times and _keyframes too."""
        shown = [packet for packet in self._packets if not packet.is_discard]
        times = sorted(packet.pts for packet in shown if packet.pts is not None)
        self._times: list[int] | None = None
        self._keyframes: list[tuple[int, int]] = []
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
            self.num_frames = len(times)
        else:
            self.num_frames = sum(1 for _ in self._decode_from(0))
            self._decoder.flush_buffers()

    def _read_ascending(self, wanted: np.ndarray) -> torch.Tensor:
        try:
            try:
                return self._collect(wanted, allow_jumps=True)
            except _OutOfStep:
                return self._collect(wanted, allow_jumps=False)
        except av.FFmpegError as error:
            raise self._unreadable(error) from None

    def _collect(self, wanted: np.ndarray, allow_jumps: bool) -> torch.Tensor:
        keyframes = self._keyframes if allow_jumps else []
        frames, index, decoded = None, None, iter(())
        for position, target in enumerate(wanted.tolist()):
            start = max((keyframe for keyframe in keyframes if keyframe[0] <= target), default=(0, 0))
            if index is None or start[0] > index + _REORDERED_FRAMES:
                self._decoder.flush_buffers()
                decoded = self._numbered(*start)
            for index, frame in decoded:  # noqa: B007  (the next target looks at index)
                if index == target:
                    break
            else:
                raise UserError(
                    f"{self.name}: damaged, {self.num_frames} frames are promised and frame {target} does not come out "
                    "of the decoder; encode the video again or take it off the list"
                )
            if frames is None:
                frames = torch.empty((len(wanted), frame.height, frame.width, 3), dtype=torch.uint8)
            check_same_size(self.name, f"frame {target}", (frame.height, frame.width), tuple(frames.shape[1:3]))
            frames[position] = torch.from_numpy(self._to_rgb(frame))
        return frames

    def _to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """(H,W,3) uint8. One reformatter for the clip: setting one up costs more than many conversions."""
        return self._reformatter.reformat(frame, format="rgb24", **_ONE_THREAD).to_ndarray()

    def _numbered(self, first: int, packet_position: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """(index, frame) from the keyframe at `packet_position` on, whose own index is `first`."""
        index = first
        for frame in self._decode_from(packet_position):
            if self._times is not None:
                if first > 0 and frame.pts is not None and frame.pts < self._times[first]:
                    continue  # leading pictures: shown before the keyframe, and refer to frames before it
                if index >= self.num_frames or frame.pts != self._times[index]:
                    if first > 0:
                        raise _OutOfStep
                    raise UserError(
                        f"{self.name}: damaged, frame {index} of {self.num_frames} does not come out of the decoder; "
                        "encode the video again or take it off the list"
                    )
            yield index, frame
            index += 1

    def _decode_from(self, packet_position: int) -> Iterator[av.VideoFrame]:
        """Frames in output order from the packet at `packet_position` to the end of the stream."""
        for packet in self._packets[packet_position:]:
            yield from self._checked(self._decoder.decode(packet))
        yield from self._checked(self._decoder.decode(None))

    def _checked(self, frames: list[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for frame in frames:
            if frame.is_corrupt:
                raise UserError(f"{self.name}: damaged, the decoder marks a frame as corrupt; encode the video again")
            yield frame

    def _unreadable(self, error: Exception) -> UserError:
        if isinstance(error, FileNotFoundError):
            return UserError(f"{self.name}: no such file; check data.train_root or data.val_root and the list")
        if isinstance(error, IsADirectoryError):
            return UserError(f"{self.name}: is a folder; for folders of frames set data.modality to RGB")
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        return UserError(f"{self.name}: cannot be decoded ({reason}); the file is damaged or not a video")

    def close(self) -> None:
        self._packets = []
        self._decoder = None
        if self._container is not None:
            self._container.close()
            self._container = None
