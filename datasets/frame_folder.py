"""Frame folders: one JPEG or PNG file per frame, decoded to uint8 tensors without PIL images."""

import os
import re
import stat
from pathlib import Path

from datasets.frame_source import ImageSource, describe
from datasets.lists import unreadable
from utils.errors import UserError

_MISSING = FileNotFoundError, NotADirectoryError
_CHUNK = 2**16  # bytes


class FrameFolder(ImageSource):
    """The frames `folder/image_tmpl.format(index + index_bias)`; errors name `listed_at`, "list:line"."""

    def __init__(self, folder: str | Path, num_frames: int, image_tmpl: str, index_bias: int = 1, listed_at: str = ""):
        self.name = describe(folder, listed_at)
        self.num_frames = num_frames
        # str, because creating a Path per frame takes as long as reading the file.
        self._folder = str(folder)
        self._image_tmpl = image_tmpl
        self._index_bias = index_bias
        self._listed_at = listed_at

    def _image(self, index: int) -> tuple[bytes, str]:
        path = f"{self._folder}/{self._file_name(index)}"
        name = describe(path, self._listed_at)
        try:
            return _read_file(path, name), name
        except _MISSING:
            raise self._missing(name) from None

    def _frame_name(self, index: int) -> str:
        return f"frame {self._file_name(index)}"

    def _file_name(self, index: int) -> str:
        return self._image_tmpl.format(index + self._index_bias)

    def _missing(self, name: str) -> UserError:
        """The error for a missing frame: its folder or its file is missing."""
        if Path(self._folder).is_file():
            return UserError(
                f"{self.name}: is a file, not a folder of frames; for video files set data.modality to video"
            )
        if not Path(self._folder).is_dir():
            return UserError(f"{self.name}: no such folder; check data.train_root or data.val_root and the list")
        return UserError(
            f"{name}: no such frame, although the list gives {self.num_frames} frames; correct num_frames there, or "
            "data.image_tmpl or data.index_bias"
        )


def count_frames(folder: str | Path, image_tmpl: str) -> int:
    """Number of files in the folder that match `image_tmpl`; 0 if the folder does not exist."""
    start, end = re.split(r"\{[^}]*\}", image_tmpl, maxsplit=1)
    pattern = re.compile(rf"{re.escape(start)}\d+{re.escape(end)}")
    try:
        return sum(pattern.fullmatch(name) is not None for name in os.listdir(folder))  # noqa: PTH208 - only names are needed
    except _MISSING:
        return 0


def read_image_file(path: str | Path) -> bytes:
    """The bytes of a file. Raises a UserError if it is missing or cannot be read."""
    try:
        return _read_file(path, str(path))
    except _MISSING:
        raise UserError(f"{path}: no such file") from None


def _read_file(path: str | Path, name: str) -> bytes:
    """Read a file. Raises one of _MISSING if it does not exist, or a UserError that begins with `name` if it cannot be
    read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe would wait for another program
        try:  # half the time of Python's file objects
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{name}: is not a file, but a folder, a pipe or a device")
            data = os.read(file, status.st_size)
            while rest := os.read(file, _CHUNK):  # empty at the end, which some file systems give no size for
                data += rest
            return data
        finally:
            os.close(file)
    except _MISSING:
        raise
    except OSError as error:
        raise unreadable(name, error) from None
