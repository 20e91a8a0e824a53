"""Readers of official split files: the clips of each split, and their classes.

Samples are returned in file order; videos are not accessed. Files in an unexpected format raise a UserError
"file:line: ...".
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError


@dataclass(frozen=True)
class Sample:
    """A clip of a split. `candidates`: possible names on disk without extension, most specific first."""

    candidates: tuple[str, ...]
    class_names: tuple[str, ...]  # one, or any number in a multi-label data set

    @property
    def class_name(self) -> str:
        (name,) = self.class_names
        return name


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(line number from 1, text) of non-blank lines. Raises a UserError if the file does not exist or is not UTF-8."""
    lines = read_text(path).splitlines()
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def read_text(path: Path) -> str:
    """The text of a UTF-8 file. Raises a UserError if it does not exist or is not UTF-8."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 ({error}); convert it, or download it again") from error


def read_columns(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """("file:line", text by column) of each row of a CSV whose header includes these columns."""
    reader = csv.DictReader(io.StringIO(read_text(path)))
    try:
        absent = [name for name in columns if name not in (reader.fieldnames or ())]
        if absent:
            raise UserError(f"{path}:1: missing column {', '.join(absent)}; the header must have {', '.join(columns)}")
        for row in reader:
            yield f"{path}:{reader.line_num}", {name: row[name] or "" for name in columns}
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not a valid CSV line ({error})") from error


def read_json(path: Path, kind: type) -> Any:
    """The content of a JSON file. Raises a UserError unless it is of this kind."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); download it again") from error
    if not isinstance(content, kind):
        raise UserError(f"{path}: contains a {type(content).__name__}, expected a {kind.__name__}; use the right file")
    return content


# UCF101: ucfTrainTestlist/classInd.txt "1 ApplyEyeMakeup"; trainlist01.txt "ApplyEyeMakeup/v_..._c01.avi 1";
# testlist01.txt the same without the number.
def read_ucf101_classes(folder: Path) -> list[str]:
    """The class names of classInd.txt, in the order of their ids."""
    path = folder / "classInd.txt"
    names = []
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) != 2 or fields[0] != str(len(names) + 1):
            raise UserError(f'{path}:{number}: "{line}" is not "{len(names) + 1} ClassName"')
        names.append(fields[1])
    return names


def read_ucf101_split(folder: Path, split: int) -> dict[str, list[Sample]]:
    """{"train", "val"} of split 1, 2 or 3; the test list is used for validation."""
    samples: dict[str, list[Sample]] = {}
    for part, name in (("train", f"trainlist{split:02d}.txt"), ("val", f"testlist{split:02d}.txt")):
        samples[part] = []
        for number, line in read_lines(folder / name):
            video = line.split()[0]
            if video.count("/") != 1 or not video.endswith(".avi"):
                raise UserError(f'{folder / name}:{number}: "{line}" is not "ClassName/video.avi"')
            samples[part].append(Sample((video.removesuffix(".avi"),), (video.split("/")[0],)))
    return samples


# HMDB51: testTrainMulti_7030_splits/brush_hair_test_split1.txt "video.avi 1": 0 unused, 1 training, 2 testing.
HMDB51_PARTS = {"0": "unused", "1": "train", "2": "val"}


def read_hmdb51_classes(folder: Path) -> list[str]:
    """The class names of the split files, sorted."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    suffix = "_test_split1.txt"
    names = sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))
    if not names:
        raise UserError(f"{folder}: contains no file *{suffix}; expected the folder testTrainMulti_7030_splits")
    return names


def read_hmdb51_split(folder: Path, split: int) -> dict[str, list[Sample]]:
    """train, val, unused -> the clips of a split."""
    samples: dict[str, list[Sample]] = {"train": [], "val": [], "unused": []}
    for class_name in read_hmdb51_classes(folder):
        path = folder / f"{class_name}_test_split{split}.txt"
        for number, line in read_lines(path):
            fields = line.split()
            if len(fields) != 2 or fields[1] not in HMDB51_PARTS:
                raise UserError(f'{path}:{number}: "{line}" is not "video.avi 0", 1 or 2')
            video = fields[0].removesuffix(".avi")
            samples[HMDB51_PARTS[fields[1]]].append(Sample((f"{class_name}/{video}",), (class_name,)))
    return samples


# Kinetics-400, -600, -700: CSV with a header; the order of the columns differs between releases.
KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def _kinetics_clip(youtube_id: str, start: Any, end: Any, label: str) -> Sample:
    """Looked for as youtube_id_SSSSSS_EEEEEE (the official downloader's name), then as youtube_id. Raises a ValueError,
    OverflowError or TypeError if a time is not a finite number, or the label is not text."""
    if not isinstance(label, str):
        raise TypeError(label)
    return Sample((f"{youtube_id}_{int(float(start)):06d}_{int(float(end)):06d}", youtube_id), (label,))


def _read_kinetics_csv(path: Path) -> list[Sample]:
    samples = []
    for where, row in read_columns(path, KINETICS_COLUMNS):
        try:
            clip = _kinetics_clip(row["youtube_id"], row["time_start"], row["time_end"], row["label"])
        except (ValueError, OverflowError) as error:
            raise UserError(f"{where}: time_start or time_end is not a number") from error
        if not row["label"]:
            raise UserError(f"{where}: no label")
        samples.append(clip)
    return samples


def read_kinetics(path: Path) -> list[Sample]:
    """Clips of an official CSV, or of an official JSON file, `{id: {"annotations": {"label", "segment"}, ...}}`."""
    if path.suffix.lower() != ".json":
        return _read_kinetics_csv(path)
    samples = []
    for youtube_id, entry in read_json(path, dict).items():
        try:
            start, end = entry["annotations"]["segment"]
            samples.append(_kinetics_clip(youtube_id, start, end, entry["annotations"]["label"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{path}: {youtube_id} has no annotation with label and segment") from error
    return samples
