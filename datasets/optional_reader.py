"""What the readers share that need a package of their own."""

import importlib
from pathlib import Path
from types import ModuleType

from datasets.frame_source import FrameSource
from utils.errors import UserError, first_line


def import_optional(package: str, module: str | None = None) -> ModuleType:
    """The module of an optional decoder package. Raises UserError if it or its libraries are missing."""
    try:
        return importlib.import_module(module or package)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise
        raise UserError(
            f"data.decoder: {package} is not installed; run 'pip install {package}', or set data.decoder=pyav"
        ) from None
    except (ImportError, OSError, RuntimeError) as error:
        reason = first_line(error)
        raise UserError(
            f"data.decoder: {package} is installed but does not load ({reason}); set data.decoder=pyav"
        ) from None


def check_is_video_file(path: str | Path, name: str) -> None:
    if not Path(path).is_file():
        raise UserError(f"{name}: no such file; check data.train_root or data.val_root and the list")


def check_has_frames(source: FrameSource) -> None:
    if source.num_frames < 1:
        raise UserError(f"{source.name}: the video stream contains no frames")


def undecodable(name: str, decoder: str, error: Exception) -> UserError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else type(error).__name__
    return UserError(f"{name}: {decoder} cannot decode it ({reason}); the file is corrupted or not a video")
