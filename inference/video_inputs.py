"""Inputs of a prediction: videos by file, folder, pattern, camera or URL; classes by name or file."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets.lists import read_labels
from utils.errors import UserError

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".3gp",
    ".asf", ".ogv", ".vob", ".gif", ".3g2", ".divx", ".f4v", ".rm", ".rmvb", ".dv", ".y4m", ".mjpeg", ".h264", ".mpe",
    ".m1v", ".m2v",
))
# fmt: on
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png"))
# Folders created by storage devices and operating systems, which may contain copies of files.
SYSTEM_FOLDERS = frozenset(
    ("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX")
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(//|.*/)")  # more than one letter, unlike drives of Windows


def is_live(source: str | Path | int) -> bool:
    """Whether `source` is the number of a camera or a URL, whose length is unknown."""
    if not isinstance(source, str):
        return isinstance(source, int)
    return bool(_URL.match(source) or source.isdecimal()) and not Path(source).exists()


def expand_inputs(names: Sequence[str | Path]) -> list[str]:
    """Videos, folders of frames and live sources, in the order of `names`; folders and patterns are sorted.

    Args:
        names: files; folders of frames, or of videos and folders of frames at any depth; patterns such as `a/*.mp4`;
            URLs and cameras' numbers. Missing files are kept, since reading them raises an error.

    Raises:
        UserError: a folder contains no videos, or a pattern has no matches.
    """
    found: list[str] = []
    for name in map(str, names):
        if is_live(name):
            found.append(name)
        elif Path(name).is_dir():
            found += _videos_in(Path(name))
        elif any(sign in name for sign in "*?[") and not Path(name).exists():
            matches = sorted(glob.glob(name, recursive=True), key=natural_key)  # noqa: PTH207 (any pattern)
            if not matches:
                raise UserError(f"{name}: no file matches")
            for match in matches:
                found += _videos_in(Path(match)) if Path(match).is_dir() else [match]
        else:
            found.append(name)
    return found


def walk_visible(root: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Like os.walk: yields each folder with the names of its folders and files.

    Links to folders are followed, except to a parent folder. Hidden files and folders (names that begin with a dot) and
    SYSTEM_FOLDERS are left out.
    """
    for place, folders, files in os.walk(root, followlinks=True):
        visible = [name for name in folders if not name.startswith(".") and name not in SYSTEM_FOLDERS]
        folders[:] = [name for name in visible if not _leads_back(Path(place), name)]
        yield place, folders, [name for name in files if not name.startswith(".")]


def _leads_back(place: Path, name: str) -> bool:
    folder = place / name
    return folder.is_symlink() and place.resolve().is_relative_to(folder.resolve())


def list_frames(folder: Path) -> list[Path]:
    """The images of a folder in the order of the numbers in their names. Raises a UserError if there is none."""
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    images = (path for path in visible if path.suffix.lower() in IMAGE_SUFFIXES)
    paths = sorted(images, key=lambda path: natural_key(path.name))
    if not paths:
        raise UserError(f"{folder}: no JPEG or PNG images in the folder")
    return paths


def natural_key(name: str) -> list:
    """Sorts `frame10` after `frame9`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def read_class_names(classes: str | Sequence[str]) -> list[str]:
    """Class names from a list, from comma-separated text, or from a CSV `id,name`. Raises a UserError if there are no
    names or duplicates, or the file is invalid."""
    if isinstance(classes, str) and classes.lower().endswith(".csv"):
        return read_labels(classes)
    if isinstance(classes, str) and os.path.isfile(classes):  # noqa: PTH113 (Path's raises for a long text)
        raise UserError(
            f"{classes}: not a .csv file; give a CSV with the columns id,name, or class names separated by commas"
        )
    if isinstance(classes, str):
        classes = classes.split(",")
    names = [name.strip() for name in classes if name.strip()]
    if not names:
        raise UserError("no classes given; separate names by commas, or give a CSV file (id,name)")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"classes: {', '.join(twice[:4])} is given twice")
    return names


def _videos_in(folder: Path) -> list[str]:
    """A folder of frames, or the videos and folders of frames below a folder, sorted."""
    found = []
    for place, folders, files in walk_visible(folder):
        suffixes = {Path(name).suffix.lower() for name in files}
        if suffixes & IMAGE_SUFFIXES and not suffixes & VIDEO_SUFFIXES:
            found.append(place)
            folders.clear()
        else:
            found += [str(Path(place) / name) for name in files if Path(name).suffix.lower() in VIDEO_SUFFIXES]
    if not found:
        raise UserError(f"{folder}: contains neither videos nor images")
    return sorted(found, key=natural_key)
