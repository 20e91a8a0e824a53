"""Packed clips: all frames of a video as JPEGs in one Matroska file, with an index to read any frame at once.

Any player can open it (V_MJPEG; elements as in RFC 9559): every frame is a keyframe, and the cues list all of them.
Elements are written with sizes of a fixed length, so the index is read as a table without parsing:

    EBML header | Segment: SeekHead, Info, Tracks, Cluster, Cluster, ..., Cues

A cluster contains blocks, and a block one JPEG; a cue has the time of a frame, the offset of its cluster, and the
offset of its block in the cluster.
"""

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from datasets.byte_ranges import ByteRange, FileRange
from datasets.frame_source import ImageSource, describe
from utils.errors import UserError

_WRITER = b"packed clip of video-clip-transfer, layout 1"
_CLUSTER_BYTES, _CLUSTER_MS = 2**20, 30_000  # a block's time is a 16-bit offset in ms from its cluster's
_BLOCK = struct.Struct(">BIBhB")  # SimpleBlock: ID, size in four bytes, track, time in the cluster, flags
_BLOCK_ID, _TRACK, _KEYFRAME, _SIZE_MARK = 0xA3, 0x81, 0x80, 1 << 28
_SEGMENT_ID, _CUES_ID = bytes.fromhex("18538067"), bytes.fromhex("1c53bb6b")
_CLUSTER_HEADER_BYTES = 12
_MAX_INDEX_BYTES = 2**28
_HEAD_BYTES = 512
_CUE = np.dtype(
    [("head", "V4"), ("time", ">u8"), ("track", "V7"), ("cluster", ">u8"), ("mark", "V2"), ("block", ">u4")]
)


def write_packed_clip(path: Path, frames: Iterable[tuple[bytes, int]], width: int, height: int) -> int:
    """Write frames as (JPEG bytes, time in ms), in ascending time, all of width x height; returns their number."""
    with path.open("wb") as file:
        file.write(_header(width, height, 0, 0, 0))
        segment_begin = _header(width, height, 0, 0, 0).index(_SEGMENT_ID) + 12
        cues = []
        blocks = bytearray()  # of the current cluster, which begins at begin_ms
        begin_ms = time_ms = 0
        for jpeg, time_ms in frames:
            if blocks and (len(blocks) > _CLUSTER_BYTES or time_ms - begin_ms > _CLUSTER_MS):
                file.write(_cluster(begin_ms, blocks))
                blocks = bytearray()
            if not blocks:
                begin_ms = time_ms
            # Offsets in a cluster count from its first element, its time (10 bytes).
            cues.append((time_ms, file.tell() - segment_begin, len(blocks) + 10))
            blocks += _BLOCK.pack(_BLOCK_ID, _SIZE_MARK | len(jpeg) + 4, _TRACK, time_ms - begin_ms, _KEYFRAME) + jpeg
        if blocks:
            file.write(_cluster(begin_ms, blocks))
        cues_at = file.tell() - segment_begin
        file.write(_cues(cues))
        size = file.tell() - segment_begin
        file.seek(0)
        file.write(_header(width, height, size, cues_at, time_ms))
    return len(cues)


class PackedClip(ImageSource):
    """A file written by `write_packed_clip`.

    Args:
        data: its bytes, if they are not those of the file `path`.

    Raises:
        UserError: it is truncated, corrupted or another file.
    """

    def __init__(self, path: str | Path, listed_at: str = "", data: ByteRange | None = None):
        self.name = describe(path, listed_at)
        self._data = FileRange(path) if data is None else data
        try:
            self._index(self._data.read(_HEAD_BYTES, 0))
        except UserError:
            self.close()
            raise

    def _index(self, head: bytes) -> None:
        """Set num_frames, and the offsets of the blocks and of the end of the last."""
        if _WRITER not in head:
            raise UserError(f"{self.name}: is not a packed clip; its index is of another file, or it is corrupted")
        segment_at = head.find(_SEGMENT_ID)
        cues_entry = head.find(b"\x53\xab\x84" + _CUES_ID)
        segment_begin = segment_at + 12
        cues_at = segment_begin + int.from_bytes(head[cues_entry + 10 : cues_entry + 18], "big")
        segment_size = int.from_bytes(head[segment_at + 5 : segment_begin], "big")
        cues_size = segment_begin + segment_size - cues_at - 12
        # The sizes in its header are 0 until the file is complete.
        table = self._data.read(min(max(cues_size, 0), _MAX_INDEX_BYTES), cues_at + 12)
        if min(segment_at, cues_entry, cues_size) < 0 or len(table) < cues_size or len(table) % _CUE.itemsize:
            raise UserError(f"{self.name}: the file is truncated; copy it again or pack the video again")
        cues = np.frombuffer(table, dtype=_CUE)
        self.num_frames = len(cues)
        if self.num_frames == 0:
            raise UserError(f"{self.name}: the file contains no frames")
        self._times_ms = cues["time"].astype(np.int64)
        blocks = segment_begin + _CLUSTER_HEADER_BYTES + cues["cluster"].astype(np.int64) + cues["block"]
        self._offsets = np.append(blocks, cues_at)
        if self._offsets[0] < segment_begin or (np.diff(self._offsets) <= _BLOCK.size).any():
            raise UserError(f"{self.name}: its index is corrupted; copy it again or pack the video again")

    def frame_times(self) -> np.ndarray:
        return (self._times_ms - self._times_ms[0]) / 1000

    def _image(self, index: int) -> tuple[bytes, str]:
        name = f"{self.name}: frame {index}"
        begin, end = self._offsets[index : index + 2].tolist()
        data = self._data.read(end - begin, begin)
        if len(data) >= _BLOCK.size:
            block_id, size, *_ = _BLOCK.unpack_from(data)
            jpeg = data[_BLOCK.size : _BLOCK.size + (size ^ _SIZE_MARK) - 4]
            if block_id == _BLOCK_ID and len(jpeg) + 4 == size ^ _SIZE_MARK:
                return jpeg, name
        raise UserError(f"{name} is not where the index says; the file is corrupted, pack it again")

    def close(self) -> None:
        self._data.close()


def is_packed_clip(path: Path) -> bool:
    """Whether the file was written by `write_packed_clip`. False if it cannot be read."""
    if not path.is_file():  # opening a pipe would wait for its writer
        return False
    try:
        with path.open("rb", buffering=0) as file:
            return _WRITER in file.read(_HEAD_BYTES)
    except OSError:
        return False  # the decoder reports the error


def _element(element_id: str, content: bytes) -> bytes:
    """An element with at most 126 bytes of content; `element_id` in hexadecimal."""
    assert len(content) < 127
    return bytes.fromhex(element_id) + bytes([0x80 | len(content)]) + content


def _number(element_id: str, value: int, num_bytes: int = 8) -> bytes:
    return _element(element_id, value.to_bytes(num_bytes, "big"))


def _sized(element_id: str, size: int) -> bytes:
    """ID and size (8 bytes) of an element whose content follows."""
    return bytes.fromhex(element_id) + (1 << 56 | size).to_bytes(8, "big")


def _header(width: int, height: int, segment_size: int, cues_at: int, last_ms: int) -> bytes:
    """Everything before the first cluster, of fixed length."""
    document = _element("4282", b"matroska") + _number("4287", 4, 1) + _number("4285", 2, 1)
    info = _number("2ad7b1", 1_000_000) + _element("4489", struct.pack(">d", last_ms))
    info = _element("1549a966", info + _element("4d80", _WRITER) + _element("5741", b"pack_videos.py"))
    video = _element("e0", _number("b0", width, 4) + _number("ba", height, 4))
    track = _number("d7", 1, 1) + _number("73c5", 1) + _number("83", 1, 1) + _number("9c", 0, 1)
    tracks = _element("1654ae6b", _element("ae", track + _element("86", b"V_MJPEG") + video))
    seek_head_bytes = 5 + 3 * 21
    tracks_at = seek_head_bytes + len(info)
    entries = b""
    for element_id, place in (("1549a966", seek_head_bytes), ("1654ae6b", tracks_at), ("1c53bb6b", cues_at)):
        entries += _element("4dbb", _element("53ab", bytes.fromhex(element_id)) + _number("53ac", place))
    seek_head = _element("114d9b74", entries)
    assert len(seek_head) == seek_head_bytes
    return _element("1a45dfa3", document) + _sized("18538067", segment_size) + seek_head + info + tracks


def _cluster(begin_ms: int, blocks: bytearray) -> bytes:
    time = _number("e7", begin_ms)
    return _sized("1f43b675", len(time) + len(blocks)) + time + blocks


def _cues(cues: list[tuple[int, int, int]]) -> bytes:
    """(time in ms, offset of the cluster, offset of the block in it) of every frame."""
    points = b"".join(
        _element(
            "bb",
            _number("b3", time)
            + _element("b7", _number("f7", 1, 1) + _number("f1", cluster) + _number("f0", block, 4)),
        )
        for time, cluster, block in cues
    )
    return _sized("1c53bb6b", len(points)) + points
