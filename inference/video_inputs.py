"""Inputs of a prediction: videos by file, folder, pattern, camera or URL; classes by name or file."""

import glob
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from datasets.lists import read_labels, tokenized_name
from utils.errors import UserError
from utils.odd_names import is_utf8
from utils.terminal import print_error_line

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".3gp",
    ".asf", ".ogv", ".vob", ".gif", ".3g2", ".divx", ".f4v", ".rm", ".rmvb", ".dv", ".y4m", ".mjpeg", ".h264", ".mpe",
    ".m1v", ".m2v", ".264", ".265", ".h265", ".hevc", ".ivf", ".nut",
))
# fmt: on
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png"))
# Folders created by storage devices and operating systems, which may contain copies of files.
SYSTEM_FOLDERS = frozenset(
    ("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX")
)
_LIST_FILE = re.compile(r"[^,]+\.(txt|tsv|json|ya?ml|xlsx?)", re.IGNORECASE)
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
    SYSTEM_FOLDERS are left out. Raises a UserError if a folder cannot be read.
    """
    for place, folders, files in os.walk(root, onerror=_unreadable, followlinks=True):
        visible = [name for name in folders if not name.startswith(".") and name not in SYSTEM_FOLDERS]
        folders[:] = [name for name in visible if not _leads_back(Path(place), name)]
        yield place, folders, [name for name in files if not name.startswith(".")]


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror}); correct that, or move it away") from error


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
    if isinstance(classes, str) and _LIST_FILE.fullmatch(classes):
        raise UserError(f"{classes}: no such file; give a CSV with the columns id,name, or class names")
    if isinstance(classes, str):
        classes = classes.split(",")
    names = [" ".join(name.split()) for name in classes if name.strip()]
    if not names:
        raise UserError("no classes given; separate names by commas, or give a CSV file (id,name)")
    if odd := [name for name in names if not is_utf8(name)]:
        raise UserError(
            f"classes: {odd[0]!r} is not UTF-8 text; type it in a UTF-8 terminal, or give a CSV file (id,name)"
        )
    counts = Counter(map(tokenized_name, names))
    twice = sorted({name for name in names if counts[tokenized_name(name)] > 1})
    if twice:
        raise UserError(f"classes: {', '.join(twice[:4])} is given twice; names must differ, ignoring case and spaces")
    return names


def _videos_in(folder: Path) -> list[str]:
    """The videos and folders of frames in and below a folder, sorted. What was passed over is printed to stderr, and so
    are doubts about frames."""
    found = []
    others: Counter[str] = Counter()
    for place, _, files in walk_visible(folder):
        by_suffix: dict[str, list[str]] = {}
        for name in files:
            by_suffix.setdefault(Path(name).suffix.lower(), []).append(name)
        videos = [name for suffix in by_suffix.keys() & VIDEO_SUFFIXES for name in by_suffix.pop(suffix)]
        images = [name for suffix in by_suffix.keys() & IMAGE_SUFFIXES for name in by_suffix.pop(suffix)]
        others.update({suffix: len(names) for suffix, names in by_suffix.items()})
        if images and not videos:
            found.append(place)
            if doubt := _doubt_of_frames(sorted(images, key=natural_key)):
                print_error_line(f"warning: {place}: {doubt}")
        else:
            found += [str(Path(place) / name) for name in videos]
    if not found:
        raise UserError(f"{folder}: contains neither videos nor images")
    if others:
        print_error_line(skipped_files(folder, others))
    return sorted(found, key=natural_key)


def _doubt_of_frames(names: Sequence[str]) -> str | None:
    """Why sorted images are probably not all frames of one video: different names, or gaps in their numbers."""
    kinds = sorted({re.sub(r"\d+", "#", name.lower()) for name in names})
    if len(kinds) > 1:
        return f"its images have different names ({', '.join(kinds[:3])}), but are read as frames of one video"
    numbers = [int(found[-1]) for name in names if (found := re.findall(r"\d+", name))]
    steps = [after - before for before, after in pairwise(numbers)]
    for before, step in zip(numbers, steps):
        if step <= 0 or step >= 2 * statistics.median(steps):
            return f"frame {before} is followed by {before + step}; are frames missing, or of another video?"
    return None


def skipped_files(root: Path, suffixes: Counter[str]) -> str:
    """The line for files that are neither videos nor frames: number by suffix."""
    ranked = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    counts = ", ".join(f"{count} {suffix or 'no extension'}" for suffix, count in ranked)
    return f"{root}: skipped files whose extension is not that of a video: {counts}"
