"""Checks the sizes declared in a video container before FFmpeg opens it.

FFmpeg may read a truncated file without an error, so half a video could pass for a whole one. It also allocates the
index declared in an MP4 file whatever its size: 700 bytes can declare gigabytes.
"""

import os
import stat
import struct
from collections.abc import Iterator
from os import SEEK_CUR
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from utils.errors import UserError

MAX_INDEX_ENTRIES = 2**22
"""Maximum number of samples in all tracks of an MP4 file, for which FFmpeg's index takes about 100 MB; a film of 12
hours with sound has 3 million."""
MAX_INDEX_BYTES = 2**28
"""Maximum size of the box with the tables of an MP4 file."""

_EBML_HEADER, _MATROSKA_SEGMENT = 0x1A45DFA3, 0x18538067
_GIF_EXTENSION, _GIF_IMAGE = b"\x21", b"\x2c"
# Some AVI writers leave the size a few bytes off.
_RIFF_SLACK_BYTES = 64
# Types of the first box by which FFmpeg takes a file for an MP4 (libavformat/mov.c, mov_probe).
_FIRST_BOXES = frozenset(
    (b"ftyp", b"moov", b"mdat", b"moof", b"pnot", b"udta", b"wide", b"free", b"skip", b"junk", b"pict", b"uuid")
    + (b"prfl", b"styp", b"sidx", b"ednx", b"thum", b"emsg", b"ssix")
)
# Boxes in which FFmpeg looks for others (the same file, mov_default_parse_table).
_PARENTS = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"mvex", b"moof", b"traf", b"dinf", b"wave")
    + (b"gmhd", b"ilst", b"sinf", b"schi", b"iprp", b"ipro", b"tapt", b"meta")
)
_MAX_DEPTH = 12
_HEADER = struct.Struct(">I4s")
_PCM_SAMPLES_PER_ENTRY = 1024


class _Box(NamedTuple):
    """A box of an MP4 file, with content from `begin` to `end` of its parent."""

    kind: bytes
    begin: int
    end: int


class Layout(NamedTuple):
    """What the headers of a container declare.

    Attributes:
        may_be_mp4: whether FFmpeg may take it for an MP4, QuickTime or 3GP file.
        missing_bytes: declared bytes beyond the end of the file; 0 for formats that do not declare a size.
    """

    may_be_mp4: bool
    missing_bytes: int


def read_layout(path: Path, name: str) -> Layout:
    """Read the headers of a container.

    Raises:
        OSError: there is no such file, it is a folder, or it cannot be opened.
        UserError: the tables of an MP4 file declare more than MAX_INDEX_ENTRIES samples, or it is a pipe or device; it
            begins with `name`.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a pipe would wait for its writer
        raise UserError(f"{name}: is a pipe or device; expected a video file")
    with path.open("rb") as file:
        file_size = os.fstat(file.fileno()).st_size
        head = file.read(4096)
        if head[4:8] in _FIRST_BOXES:
            file.seek(0)
            boxes = list(_top_boxes(file, file_size))
            _check_sample_tables(file, file_size, boxes, name)
            # Only boxes of media and index matter.
            ends = [box.end for box in boxes if box.kind in (b"moov", b"moof", b"mdat")]
            return Layout(True, max(0, max(ends, default=0) - file_size))
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            riff_size = int.from_bytes(head[4:8], "little")
            return Layout(False, max(0, riff_size + 8 - file_size - _RIFF_SLACK_BYTES))
        if head[:4] == _EBML_HEADER.to_bytes(4, "big"):
            return Layout(False, max(0, _matroska_end(head) - file_size))
        if head[:3] == b"GIF":
            return Layout(False, _missing_of_gif(file, file_size))
    return Layout(False, 0)


def _missing_of_gif(file: BinaryIO, file_size: int) -> int:
    """Minimum number of bytes missing from the last block; 0 if the file ends between blocks."""

    def pass_table() -> None:
        flags = file.read(1)
        if flags and flags[0] & 0x80:
            file.seek(3 << (flags[0] & 7) + 1, SEEK_CUR)

    file.seek(10)
    pass_table()
    file.seek(2, SEEK_CUR)  # background, aspect ratio
    while (kind := file.read(1)) in (_GIF_EXTENSION, _GIF_IMAGE):
        if kind == _GIF_IMAGE:
            file.seek(8, SEEK_CUR)  # place and size
            pass_table()
        file.seek(1, SEEK_CUR)  # label, or size of LZW codes
        while (size := file.read(1)) != b"\0":
            if not size:
                return max(1, file.tell() - file_size)
            file.seek(size[0], SEEK_CUR)
    return 0


def _check_sample_tables(file: BinaryIO, file_size: int, boxes: list[_Box], name: str) -> None:
    """Raise a UserError if the tables in the top-level boxes declare more than MAX_INDEX_ENTRIES samples."""
    declared = 0
    for box in boxes:
        if box.kind in _PARENTS:
            size = min(box.end, file_size) - box.begin
            if size > MAX_INDEX_BYTES:
                raise _too_much(name, f"has {size} bytes", MAX_INDEX_BYTES)
            file.seek(box.begin)
            declared += _declared_samples(file.read(size))
    if declared > MAX_INDEX_ENTRIES:
        raise _too_much(name, f"declares {declared} samples", MAX_INDEX_ENTRIES)


def _too_much(name: str, what: str, limit: int) -> UserError:
    return UserError(
        f"{name}: its index {what}, more than the limit of {limit}; the file is corrupted, or must be split"
    )


def _top_boxes(file: BinaryIO, file_size: int) -> Iterator[_Box]:
    """The top-level boxes of the file (ISO/IEC 14496-12, 4.2), up to the first invalid one."""
    position = 0
    while len(header := file.read(16)) >= 8 and (box := _box(header, 0, position, file_size)) is not None:
        yield box
        position = file.seek(box.end)


def _box(data: bytes, offset: int, position: int, end: int) -> _Box | None:
    """Parse the box header at `offset` of the data, for a box at `position` of a parent that ends at `end`."""
    size, kind = _HEADER.unpack_from(data, offset)
    header_size = 8
    if size == 1:
        size, header_size = int.from_bytes(data[offset + 8 : offset + 16], "big"), 16
    elif size == 0:  # to the end
        size = end - position
    return None if size < header_size else _Box(kind, position + header_size, position + size)


def _declared_samples(data: bytes) -> int:
    """Number of samples declared by the tables in a box."""
    tracks: list[list[_Box]] = [[]]
    for box in _all_boxes(data):
        if box.kind == b"cmov":  # compressed tables of any ratio, not written by any program since 2001
            return MAX_INDEX_ENTRIES + 1
        if box.kind == b"trak":
            tracks.append([])
        tracks[-1].append(box)
    return sum(_track_samples(data, boxes) for boxes in tracks)


def _all_boxes(data: bytes) -> Iterator[_Box]:
    """The boxes in the data, including nested ones, in file order."""
    position, end = 0, len(data)
    parents: list[tuple[int, int]] = []  # where to continue after each, and the end of its own parent
    while True:
        box = _box(data, position, position, end) if position + 8 <= end else None
        if box is None:
            if not parents:
                return
            position, end = parents.pop()
            continue
        yield box
        position = box.end
        if box.kind in _PARENTS and len(parents) < _MAX_DEPTH:
            parents.append((position, end))
            position, end = box.begin + (4 if box.kind == b"meta" else 0), min(box.end, end)


def _track_samples(data: bytes, boxes: list[_Box]) -> int:
    """Entries of FFmpeg's index for the boxes of one track, or of one fragment."""
    handlers, chunks = set(), []
    sizes = times = offsets = counts_one = 0
    for box in boxes:
        if box.kind == b"hdlr":
            handlers.add(data[box.begin + 8 : box.begin + 12])
        elif box.kind == b"trun":
            sizes += _number(data, box.begin + 4)
        elif box.kind in (b"stsz", b"stz2"):
            sizes += _number(data, box.begin + 8)
        elif box.kind in (b"stts", b"ctts"):
            table = _table(data, box, 2)
            times += int(table[:, 0].sum())
            counts_one += box.kind == b"stts" and len(table) == 1 and table[0, 1] == 1
        elif box.kind == b"stsc":
            chunks.append(box)
        elif box.kind in (b"stco", b"co64"):
            offsets += _number(data, box.begin + 4)
    if b"soun" in handlers and b"vide" not in handlers and counts_one and len(chunks) == 1:
        # Uncompressed audio has a "sample" for each of its 48000 per second; it is indexed by chunks.
        table = _table(data, chunks[0], 3)
        if len(table) > 0:
            first = np.append(np.minimum(table[:, 0], offsets + 1), offsets + 1)
            entries = table[:, 1] // _PCM_SAMPLES_PER_ENTRY + 1
            return int((np.maximum(np.diff(first), 0) * entries).sum())
    return max(sizes, times)


def _number(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "big")


def _table(data: bytes, box: _Box, columns: int) -> np.ndarray:
    """(n, columns) int64: the rows of a table that exist in the file."""
    begin = box.begin + 8
    rows = min(_number(data, box.begin + 4), max(0, min(box.end, len(data)) - begin) // (4 * columns))
    return np.frombuffer(data, ">u4", rows * columns, begin).reshape(rows, columns).astype(np.int64)


def _matroska_end(head: bytes) -> int:
    """Offset of the end of the segment (RFC 8794, RFC 9559); 0 if unknown (live streams)."""
    position = 4
    header_size, position = _ebml_size(head, position)
    if header_size is None:
        return 0
    position += header_size
    if head[position : position + 4] != _MATROSKA_SEGMENT.to_bytes(4, "big"):
        return 0
    segment_size, position = _ebml_size(head, position + 4)
    return 0 if segment_size is None else position + segment_size


def _ebml_size(head: bytes, position: int) -> tuple[int | None, int]:
    """(value, next position) of the variable-length size at `position`; None if unknown or invalid."""
    if position >= len(head) or head[position] == 0:
        return None, position
    length = 9 - head[position].bit_length()
    value = int.from_bytes(head[position : position + length], "big") & ((1 << (7 * length)) - 1)
    unknown = value == (1 << (7 * length)) - 1
    return (None if unknown else value), position + length
