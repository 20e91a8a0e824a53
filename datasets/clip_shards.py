"""Packed clips in tar files (`tools.pack_videos --shards`), in a folder or at a URL.

Tar files are in WebDataset format, with `KEY.mkv` and `KEY.json` per clip. `shards.csv` beside them has the byte range
of each clip, so that any clip can be read directly: lists, sampling, distributed training and resuming are the same as
with separate files.
"""

import csv
import functools
import hashlib
import io
import os
import sys
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.byte_ranges import ByteRange, FileRange
from datasets.clip_cache import ClipCache
from datasets.entries import compact_table
from datasets.frame_source import describe
from datasets.lists import unreadable
from datasets.packed_clip import PackedClip
from datasets.remote_files import file_lengths, read_file, read_range
from utils.errors import UserError
from utils.odd_names import ODD_NAMES
from utils.project_paths import SHARD_INDEX, is_url
from utils.schema import DataConfig

COLUMNS = ("path", "shard", "offset", "size", "num_frames", "label")


class ClipShards:
    """The clips of `root`, a folder or URL, with a cache for a URL. Raises a UserError if the index cannot be read."""

    def __init__(self, root: str, cache: ClipCache):
        self.root = root.rstrip("/")
        self._cache = cache
        self.index_name = f"{self.root}/{SHARD_INDEX}"
        data = read_file(self.index_name) if is_url(root) else _read_local(self.index_name)
        self._digest = hashlib.sha256(data).hexdigest()[:32]
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Read the index into arrays, sorted by a checksum of the path, by which a clip is found."""
        shards: dict[str, int] = {}
        paths, numbers, checksums = bytearray(), array("q"), array("I")
        reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8", ODD_NAMES, newline="\n"))
        try:
            if tuple(next(reader, ())) != COLUMNS:
                raise ValueError(f"the header is not {','.join(COLUMNS)}")
            for path, shard, offset, size, _, _ in reader:
                encoded = path.encode("utf-8", ODD_NAMES)
                place = shards.setdefault(shard, len(shards)), int(offset), int(size)
                if not shard or min(place) < 0:
                    raise ValueError("no shard, or a negative offset or size")
                numbers.extend((len(paths), len(encoded), *place))
                checksums.append(zlib.crc32(encoded))
                paths += encoded
        except (ValueError, OverflowError, csv.Error) as error:
            raise UserError(f"{self.index_name}:{reader.line_num}: is corrupted ({error}); copy it again") from None
        order = np.argsort(checksums, kind="stable")
        self._shards = list(shards)
        self._paths = bytes(paths)  # UTF-8, in the order of the index
        self._checksums = np.array(checksums)[order]  # uint32 (N,)
        self._rows = compact_table(numbers, ("path", "path_size", "shard", "offset", "size"))[order]
        ties = np.flatnonzero(self._checksums[1:] == self._checksums[:-1])
        seen: set[str] = set()
        for row in np.union1d(ties, ties + 1):
            path = self._path_of(*self._rows[row].item())
            if path in seen:
                line = order[row] + 2  # after the header
                raise UserError(f"{self.index_name}:{line}: is corrupted ({path} is listed twice); copy it again")
            seen.add(path)

    def _path_of(self, begin: int, path_size: int, *_: int) -> str:
        return self._paths[begin : begin + path_size].decode("utf-8", ODD_NAMES)

    def _place_of(self, path: str) -> tuple[int, int, int] | None:
        """Shard number, offset and size of a clip; None if it does not exist."""
        checksum = np.uint32(zlib.crc32(path.encode("utf-8", ODD_NAMES)))  # with an int, numpy would convert the array
        rows = slice(*(self._checksums.searchsorted(checksum, side) for side in ("left", "right")))
        for row in self._rows[rows].tolist():
            if self._path_of(*row) == path:
                return row[2:]
        return None

    def __contains__(self, path: str) -> bool:
        return self._place_of(path) is not None

    def __iter__(self) -> Iterator[str]:
        """The paths in the order of the index."""
        for row in np.sort(self._rows, order=("path", "path_size")).tolist():
            yield self._path_of(*row)

    def check_files(self) -> None:
        """Raise a UserError if a tar file is missing or truncated. Not checked over plain HTTP, which cannot list
        files."""
        if is_url(self.root):
            lengths = file_lengths(self.root)
            if lengths is None:
                return
        else:
            lengths = {file.name: file.stat().st_size for file in os.scandir(self.root)}
        ends = np.zeros(len(self._shards), dtype=np.int64)
        np.maximum.at(ends, self._rows["shard"], self._rows["offset"].astype(np.int64) + self._rows["size"])
        for name, end in zip(self._shards, ends.tolist()):
            if name not in lengths:
                raise UserError(f"{self.root}/{name}: is missing; copy it again")
            if lengths[name] < end:
                raise UserError(
                    f"{self.root}/{name}: is truncated: it has {lengths[name]} bytes, but its index declares {end}; "
                    "copy it again"
                )

    def stamp(self, path: str) -> tuple[int, int]:
        """Numbers that change if the clip changes; -1 if it does not exist."""
        place = self._place_of(path)
        return (-1, -1) if place is None else (place[2], int(self._digest[:15], 16))

    def open(self, path: str, listed_at: str = "") -> PackedClip:
        """Open a clip. Raises a UserError if it does not exist, its tar file is missing or invalid, or the network
        fails."""
        tar, data = self._find(path, listed_at)
        return PackedClip(f"{tar}: {path}", listed_at, data)

    def read(self, path: str) -> bytes:
        """The file of a clip. Raises the errors of `open`."""
        _, data = self._find(path, "")
        try:
            return data.read(sys.maxsize, 0)
        finally:
            data.close()

    def _find(self, path: str, listed_at: str) -> tuple[str, ByteRange]:
        """The tar file of a clip, and its byte range in it."""
        place = self._place_of(path)
        if place is None:
            name = describe(f"{self.root}/{path}", listed_at)
            raise UserError(f"{name}: not in {self.index_name}; pack it as well, or remove the line")
        number, offset, size = place
        tar = f"{self.root}/{self._shards[number]}"
        open_range = self._remote if is_url(tar) else self._local
        try:
            return tar, open_range(tar, offset, size)
        except UserError as error:
            raise UserError(f"{error} (for {describe(path, listed_at)})") from None

    def _local(self, tar: str, offset: int, size: int) -> ByteRange:
        try:
            clip = FileRange(tar, offset, size)
        except OSError as error:
            raise UserError(f"{tar}: cannot be opened ({error.strerror}); copy it as well") from None
        length = clip.file_size()
        if length < offset + size:
            clip.close()
            raise UserError(f"{tar}: is truncated: it has {length} bytes, but its index declares more; copy it again")
        return clip

    def _remote(self, tar: str, offset: int, size: int) -> ByteRange:
        key = hashlib.sha256(f"{self._digest} {tar} {offset}".encode()).hexdigest()[:40]
        return self._cache.get(key, size, lambda: read_range(tar, offset, size))


def clip_root(data: DataConfig, root: str) -> str | ClipShards:
    """`root` if it is a folder of files, or its shards if it is a folder or URL of shards. Raises a UserError for a URL
    with modality RGB, or an index that cannot be read."""
    if data.modality != "video":
        if is_url(root):
            raise UserError(f"{root}: only packed clips are read from a URL; set data.modality: video")
        return root
    if is_url(root) or Path(root, SHARD_INDEX).is_file():
        return _load(root, data.cache_dir, data.cache_gb)
    return root


@functools.cache  # lists with the same root share an index
def _load(root: str, cache_dir: str, cache_gb: float) -> ClipShards:
    return ClipShards(root, ClipCache(Path(cache_dir), int(cache_gb * 1e9)))


def _read_local(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
