"""Reads and validates annotation lists and class descriptions.

A frame list has lines `path num_frames label`, a video list `path label`. Fields are separated by white space and
counted from the right, so paths may contain spaces. In a multi-label list the label is a comma-separated list of class
ids (`3,17,40`), or NO_CLASS. With `data.list_times` the path is followed by `start end` of a segment in seconds. Blank
lines are skipped; CRLF line endings and a byte order mark are accepted.

Errors are `UserError`s that start with `file:line:` (or `file:` if they are not about one line).
"""

import csv
import io
import math
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.entries import NO_CLASS, Entries, Label, ListEntry
from utils.cli import PATH_REMEDIES
from utils.errors import UserError

MIN_TRAIN_FRAMES = 8
"""Frame folders with fewer frames are left out of training and validation (not of testing), as published."""

MAX_LINE_LENGTH = 2**14
"""Characters of a line: four times the longest path of Linux, with space for thousands of labels."""
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_SECONDS = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")  # float() also takes 1_0, nan ...


def read_list(
    path: str | Path,
    num_classes: int,
    *,
    of_frames: bool,
    allow_outside_root: bool = False,
    multi_label: bool = False,
    has_times: bool = False,
) -> Entries:
    """Read the entries of an annotation list, in file order.

    Args:
        num_classes: K; labels must be in 0..K-1.
        of_frames: whether it lists frame folders (`path num_frames label`) or video files (`path label`).
        allow_outside_root: accept absolute paths and paths that leave the root with `..`.
        multi_label: whether lines have any number of labels.
        has_times: whether `start end` follow the path.

    Raises:
        UserError: the list is invalid, as `file:line: ...`.
    """
    split_columns = _frame_columns if of_frames else _video_columns

    def parsed() -> Iterator[ListEntry]:
        for line, text in _numbered_lines(path):
            where = f"{path}:{line}"
            times = None
            if has_times:
                text, times = _without_times(text, of_frames, where)
            entry_path, num_frames, label = split_columns(text, where)
            _check_path(entry_path, where, allow_outside_root)
            classes = _label(label, where, num_classes, multi_label)
            yield ListEntry(entry_path, num_frames, classes, line, times=times)

    entries = Entries(parsed())
    if not entries:
        raise UserError(f"{path}: the list is empty")
    if not any(entry.classes for entry in entries):
        raise UserError(f"{path}: no video has a class")
    return entries


def _frame_columns(text: str, where: str) -> tuple[str, int, str]:
    fields = text.rsplit(None, 2)
    if len(fields) < 3:
        fault = "the num_frames column is missing" if len(fields) == 2 else "one column instead of three"
        raise UserError(f"{where}: {fault}; a frame list has lines 'path num_frames label' (data.modality: RGB)")
    path, num_frames_field, label = fields
    num_frames = _integer(num_frames_field, where, "num_frames")
    if num_frames < 0:
        raise UserError(
            f"{where}: num_frames is {num_frames}; it must be the number of frames, or 0 to count the files"
        )
    return path, num_frames, label


def _video_columns(text: str, where: str) -> tuple[str, None, str]:
    fields = text.rsplit(None, 1)
    if len(fields) < 2:
        raise UserError(f"{where}: one column instead of two; a video list has lines 'path label'")
    path, label = fields
    words = path.split()
    if len(words) > 2 and all(_SECONDS.fullmatch(word) for word in words[-2:]):
        raise UserError(
            f"{where}: four columns instead of two: for lines 'path start end label', with the times of a segment in "
            "seconds, set data.list_times=true; for a frame list, data.modality=RGB"
        )
    if len(words) > 1 and _INTEGER.fullmatch(words[-1]):
        raise UserError(
            f"{where}: three columns instead of two: this looks like a frame list ('path num_frames label', "
            "data.modality: RGB); a video list has lines 'path label'"
        )
    return path, None, label


def drop_short_entries(entries: Entries) -> tuple[Entries, int]:
    """The entries with at least MIN_TRAIN_FRAMES frames, and the number of others.

    Entries without a number of frames (videos) are kept.
    """
    num_frames = entries.num_frames
    kept = entries[(num_frames < 0) | (num_frames >= MIN_TRAIN_FRAMES)]
    return kept, len(entries) - len(kept)


def tokenized_name(name: str) -> str:
    """The class name as CLIP's tokenizer reads it: without differences of case, repeated spaces, and composed
    characters (macOS decomposes "é" in names of folders)."""
    return " ".join(unicodedata.normalize("NFC", name).lower().split())


def read_labels(path: str | Path, num_classes: int | None = None) -> list[str]:
    """Read class names from a CSV with the header `id,name`, in the order of their ids.

    The ids must be exactly 0..K-1, in any order; `num_classes` None: K is the number of lines. Class names must be
    different, because CLIP's tokenizer ignores case and repeated spaces: two classes with the same embedding could not
    be distinguished. Raises a UserError if the file is invalid, as `file:line: ...`, or `file: ...` for a missing id.
    """
    rows = csv_rows(path)
    if not rows:
        raise UserError(f"{path}: the file is empty; expected the header 'id,name' and one line per class")
    header_line, header = rows[0]
    if [field.strip().lower() for field in header] != ["id", "name"]:
        raise UserError(f"{path}:{header_line}: the header is {','.join(header)!r}; expected 'id,name'")
    if len(rows) == 1:
        raise UserError(f"{path}: no class follows the header; expected one line 'id,name' per class")
    size = len(rows) - 1 if num_classes is None else num_classes
    count_source = f"data.num_classes is {size}" if num_classes is not None else f"the file has {size} classes"
    names: dict[int, str] = {}
    first_line: dict[int, int] = {}
    id_of: dict[str, int] = {}
    for line, row in rows[1:]:
        where = f"{path}:{line}"
        if len(row) != 2:
            hint = "; put a name that contains a comma in double quotes" if len(row) > 2 else ""
            raise UserError(f"{where}: {len(row)} column(s) instead of two, 'id,name'{hint}")
        class_id = _integer(row[0].strip(), where, "class id")
        if class_id in names:
            raise UserError(f"{where}: class id {class_id} is already given on line {first_line[class_id]}")
        if not 0 <= class_id < size:
            raise UserError(f"{where}: class id {class_id} is outside 0..{size - 1} ({count_source})")
        name = " ".join(row[1].split())
        if not name:
            raise UserError(f"{where}: class {class_id} has an empty name")
        first_id = id_of.setdefault(tokenized_name(name), class_id)
        if first_id != class_id:
            raise UserError(
                f"{where}: class {class_id} has the same name as class {first_id} on line {first_line[first_id]}, "
                f"{name!r}; names must differ (ignoring case and repeated spaces); rename one"
            )
        names[class_id], first_line[class_id] = name, line
    missing = [str(class_id) for class_id in range(size) if class_id not in names]
    if missing:
        more = " ..." if len(missing) > 5 else ""
        raise UserError(
            f"{path}: no line for class id {', '.join(missing[:5])}{more}; the ids must cover 0..{size - 1}"
        )
    return [names[class_id] for class_id in range(size)]


def pick_few_shot(labels: np.ndarray, shot: int, seed: int) -> np.ndarray:
    """Positions of `shot` entries per class, ascending, int64: the few-shot training set.

    Each class is shuffled by a generator seeded with (seed, class), and the first `shot` entries are selected: the
    selection does not depend on other classes, and a smaller shot selects a subset. If a class has fewer entries, all
    are used.

    Args:
        labels: int (N,), the class ids of all entries.
    """
    picks = []
    for class_id in np.unique(labels):
        positions = np.flatnonzero(labels == class_id)
        picks.append(np.random.default_rng([seed, int(class_id)]).permutation(positions)[:shot])
    return np.sort(np.concatenate(picks))


def _numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """(1-based number, stripped text) of each non-blank line. Comments and NUL bytes are errors."""
    # Not split(), whose list needs three times the memory of the text.
    for line, match in enumerate(re.finditer(".*\n?", _read_text(path)), start=1):
        text = match.group().strip()
        if text.startswith("#"):
            raise UserError(f"{path}:{line}: comments are not part of the list format; remove the line")
        if "\0" in text:
            raise UserError(f"{path}:{line}: the line contains a NUL byte; is this a text file?")
        if "\r" in text:
            raise UserError(f"{path}:{line}: the line contains a carriage return; end lines with a line feed")
        if len(text) > MAX_LINE_LENGTH:
            raise UserError(f"{path}:{line}: the line has {len(text)} characters; is this an annotation list?")
        if text:
            yield line, text


def csv_rows(path: str | Path) -> list[tuple[int, list[str]]]:
    """(1-based number of the last line, fields) of each non-blank CSV row."""
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    rows = []
    try:
        for row in reader:
            if any(field.strip() for field in row):
                rows.append((reader.line_num, row))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not a valid CSV line ({error})") from None
    return rows


def unreadable(path: str | Path, error: OSError | ValueError) -> UserError:
    """The error for a file that cannot be read, with a remedy for its mode and its path."""
    remedy = PATH_REMEDIES.get(getattr(error, "errno", None) or 0)
    reason = getattr(error, "strerror", None) or error
    return UserError(f"{path}: cannot be read ({reason})" + (f"; {remedy}" if remedy else ""))


def _read_text(path: str | Path) -> str:
    """Read a text file. Raises a UserError if it is missing, unreadable or not UTF-8."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        remedy = "; run 'sh scripts/run_demo.sh' to create it" if Path(path).parts[:2] == ("exp", "demo") else ""
        raise UserError(f"{path}: no such file{remedy}") from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None


def _without_times(text: str, of_frames: bool, where: str) -> tuple[str, tuple[float, float]]:
    """Split the columns `start end` from a line; returns the line without them, and the times in seconds."""
    columns = "path start end num_frames label" if of_frames else "path start end label"
    num_fields = len(columns.split()) - 1
    path, *fields = text.rsplit(None, num_fields)
    if len(fields) < num_fields:
        raise UserError(f"{where}: {len(fields) + 1} columns; with data.list_times a list has lines '{columns}'")
    if not all(_SECONDS.fullmatch(field) for field in fields[:2]):
        raise UserError(
            f"{where}: start and end are {fields[0]!r} and {fields[1]!r}; give them in seconds, such as 2.5"
        )
    start, end = float(fields[0]), float(fields[1])
    if not 0 <= start < end < math.inf:
        raise UserError(f"{where}: start and end are {fields[0]} and {fields[1]}; give seconds with 0 <= start < end")
    return " ".join([path, *fields[2:]]), (start, end)


def _integer(field: str, where: str, name: str) -> int:
    if not _INTEGER.fullmatch(field):
        raise UserError(f"{where}: {name} is {field!r}, not an integer")
    return int(field)


def _label(field: str, where: str, num_classes: int, multi_label: bool) -> Label:
    if not multi_label:
        if "," in field or field == NO_CLASS:
            raise UserError(
                f"{where}: label is {field!r}, not an integer; for several labels set data.multi_label=true"
            )
        return _class_id(field, where, num_classes)
    classes = [_class_id(part, where, num_classes) for part in field.split(",") if field != NO_CLASS]
    if len(set(classes)) < len(classes):
        raise UserError(f"{where}: label is {field!r}, which contains a class twice")
    return tuple(sorted(classes))


def _class_id(field: str, where: str, num_classes: int) -> int:
    label = _integer(field, where, "label")
    if not 0 <= label < num_classes:
        raise UserError(f"{where}: label {label} is outside 0..{num_classes - 1} (data.num_classes is {num_classes})")
    return label


def _check_path(entry_path: str, where: str, allow_outside_root: bool) -> None:
    if allow_outside_root:
        return
    # Not Path, because creating one takes a third of the time of reading a list.
    is_outside = os.path.normpath(entry_path).split(os.sep, 1)[0] == ".."
    if is_outside or os.path.isabs(entry_path):  # noqa: PTH117
        fault = "outside its root folder" if is_outside else "absolute"
        raise UserError(
            f"{where}: {entry_path!r} is {fault}; paths must be relative to data.train_root or data.val_root; to allow "
            "others, set data.allow_outside_root=true"
        )
