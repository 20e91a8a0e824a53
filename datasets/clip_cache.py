"""Disk cache of downloaded clips with limited size, shared by all processes and workers of a machine.

Once it is full, nothing is evicted: an epoch reads each clip once, in random order, so a cache with half of the data
set has a hit rate of one half. With LRU eviction the rate would be lower, since clips of the current epoch would evict
those that are still needed.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from datasets.byte_ranges import ByteRange, FileRange, MemoryRange
from utils.errors import UserError
from utils.files import atomic_path

_LEDGER = "bytes"  # file with the sum of the sizes of the clips


class ClipCache:
    """A cache of at most `max_bytes` in `folder`; disabled if 0.

    May be used by any number of processes: clips are renamed when complete, and their bytes are reserved before, in a
    locked file.
    """

    def __init__(self, folder: Path, max_bytes: int):
        self._folder, self._max_bytes = folder, max_bytes
        self._is_full = max_bytes == 0

    def get(self, key: str, size: int, fetch: Callable[[], bytes]) -> ByteRange:
        """The clip of this key, of `size` bytes; calls `fetch` if it is not in the cache. Raises a UserError if the
        folder cannot be used, or raised by `fetch`."""
        path = self._folder / key[:2] / key
        try:
            is_counted = self._max_bytes > 0 and path.exists()
            if is_counted:
                cached = FileRange(path)
                if cached.size == size:
                    return cached
                cached.close()  # incomplete after a power failure
            data = fetch()
            if is_counted or (not self._is_full and self._reserve(path, size)):
                with atomic_path(path) as temporary:
                    temporary.write_bytes(data)
        except OSError as error:
            raise UserError(
                f"data.cache_dir: {self._folder} cannot be used ({error.strerror}); free space, lower data.cache_gb or "
                "choose another folder"
            ) from error
        return MemoryRange(data)

    def _reserve(self, path: Path, size: int) -> bool:
        """Whether to write the clip: no other process has, and its bytes, which are reserved, fit."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / _LEDGER, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists():
                return False
            text = os.pread(descriptor, 32, 0).strip()
            used = int(text) if text.isdigit() else self._count()
            self._is_full = used + size > self._max_bytes
            if not self._is_full:
                used += size
            os.pwrite(descriptor, f"{used:031d}\n".encode(), 0)
        finally:
            os.close(descriptor)
        return not self._is_full

    def _count(self) -> int:
        """Bytes of the existing clips, if the ledger was deleted or is corrupted."""
        return sum(path.stat().st_size for path in self._folder.glob("??/*"))
