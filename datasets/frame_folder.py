"""Frame folders: one JPEG or PNG file a frame, decoded from bytes to uint8 tensors without PIL images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torchvision.io import ImageReadMode, decode_jpeg, decode_png

from datasets.frame_source import FrameSource, check_same_size, describe
from utils.errors import UserError


class FrameFolder(FrameSource):
    """The frames `folder/image_tmpl.format(index + index_bias)`.

    Args:
        folder: holds the frame files.
        num_frames: as the list promises; a file missing among them is a fault of the line that promised it.
        image_tmpl: file name with one format field, such as "img_{:05d}.jpg".
        index_bias: number of the first frame's file.
        listed_at: "list:line" for messages.
    """

    def __init__(self, folder: str | Path, num_frames: int, image_tmpl: str, index_bias: int = 1, listed_at: str = ""):
        self.name = describe(folder, listed_at)
        self.num_frames = num_frames
        self._folder = Path(folder)
        self._image_tmpl = image_tmpl
        self._index_bias = index_bias
        self._listed_at = listed_at

    def _read_ascending(self, wanted: np.ndarray) -> torch.Tensor:
        frames = None
        for position, index in enumerate(wanted.tolist()):
            path = self._folder / self._image_tmpl.format(index + self._index_bias)
            image = decode_image_file(path, self._listed_at, missing=self._missing).permute(1, 2, 0)
            if frames is None:
                frames = torch.empty((len(wanted), *image.shape), dtype=torch.uint8)
            check_same_size(self.name, f"frame {path.name}", tuple(image.shape[:2]), tuple(frames.shape[1:3]))
            frames[position] = image
        return frames

    def _missing(self, path: Path) -> str:
        """Says why a promised file is not there: the folder, or the frame in it."""
        if self._folder.is_file():
            return f"{self.name}: is a file, not a folder of frames; for video files set data.modality to video"
        if not self._folder.is_dir():
            return f"{self.name}: no such folder; check data.train_root or data.val_root and the list"
        return (
            f"{describe(path, self._listed_at)}: no such frame, although the list promises {self.num_frames} frames; "
            "correct num_frames there, or data.image_tmpl or data.index_bias"
        )


def decode_image_file(path: Path, listed_at: str = "", missing: Callable[[Path], str] | None = None) -> torch.Tensor:
    """(3,H,W) uint8 RGB of a JPEG or PNG file; greyscale, CMYK, palette, alpha and 16-bit images are converted.

    The bytes decide which of the two it is, not the file's name.

    Args:
        listed_at: "list:line" for messages.
        missing: path -> the message for a file that is not there.

    Raises:
        UserError: for a missing, empty, truncated or otherwise undecodable file.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(missing(path) if missing else f"{describe(path, listed_at)}: no such file") from None
    except OSError as error:
        raise UserError(f"{describe(path, listed_at)}: cannot be read ({error.strerror or error})") from None
    name = describe(path, listed_at)
    if data.size == 0:
        raise UserError(f"{name}: the file is empty (zero bytes); extract the frame again")
    encoded = torch.from_numpy(data)
    try:
        if data[:2].tobytes() == b"\xff\xd8":
            return decode_jpeg(encoded, mode=ImageReadMode.RGB)
        if data[:8].tobytes() == b"\x89PNG\r\n\x1a\n":
            image = decode_png(encoded, mode=ImageReadMode.RGB)
            return image if image.dtype == torch.uint8 else (image.to(torch.int32) >> 8).to(torch.uint8)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "unknown fault"
        raise UserError(f"{name}: cannot be decoded ({reason}); the file is damaged, extract the frame again") from None
    raise UserError(f"{name}: neither a JPEG nor a PNG file")
