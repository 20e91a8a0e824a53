"""Random access to bytes of a file, of a part of a file, or in memory."""

import os
from pathlib import Path
from typing import Protocol


class ByteRange(Protocol):
    def read(self, size: int, offset: int) -> bytes:
        """Read `size` bytes at `offset`; fewer at the end."""
        ...

    def close(self) -> None:
        """Close the file; may be called twice."""
        ...


class FileRange:
    """`size` bytes of a file at offset `begin`; None: to the end. Raises an OSError if it cannot be opened."""

    def __init__(self, path: str | Path, begin: int = 0, size: int | None = None):
        self._file = os.open(path, os.O_RDONLY)
        self._begin = begin
        self.size = self.file_size() - begin if size is None else size

    def file_size(self) -> int:
        """Size of the whole file."""
        return os.fstat(self._file).st_size

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._file, max(0, min(size, self.size - offset)), self._begin + offset)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class MemoryRange:
    def __init__(self, data: bytes):
        self._data = data

    def read(self, size: int, offset: int) -> bytes:
        return self._data[offset : offset + size]

    def close(self) -> None:
        self._data = b""
