"""Readers of the official annotations of data sets that come as one folder of files.

Files in an unexpected format raise a UserError that names the file and the line or entry.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from modules.pixels import SOMETHING_SCALE
from tools.list_sources import Sample, read_columns, read_json, read_lines
from utils.errors import UserError

# Classes whose names differ by swapping these words are mirror images of each other.
MIRRORED_WORDS = (("left", "right"), ("clockwise", "counterclockwise"))
DIVING48_POSITIONS = {"FREE": "free", "PIKE": "pike", "TUCK": "tuck", "STR": "straight"}


class Annotated(NamedTuple):
    """Contents of the official files: class names in the order of their ids, and the samples of "train" and "val"."""

    class_names: list[str]
    parts: dict[str, list[Sample]]

    @classmethod
    def of(cls, class_names: list[str], train: Iterable[Sample], val: Iterable[Sample]) -> "Annotated":
        return cls(class_names, {"train": list(train), "val": list(val)})


@dataclass(frozen=True)
class AnnotatedSet:
    """A data set of this kind."""

    dataset: str  # `data.dataset` of its config
    described: str  # readable name
    files: str  # the official files that its folder holds, for --help
    read: Callable[[Path], Annotated]  # folder -> what its files say
    keys: dict[str, Any] = field(default_factory=dict)  # further `data` keys of its config


def mirrored_pairs(class_names: Sequence[str]) -> list[list[int]]:
    """Ascending pairs of class ids whose names differ by swapping MIRRORED_WORDS, for `data.flip_pairs`."""
    opposites = dict(MIRRORED_WORDS) | {right: left for left, right in MIRRORED_WORDS}
    ids = {name.lower(): id for id, name in enumerate(class_names)}
    pattern = re.compile(rf"\b({'|'.join(opposites)})\b")
    pairs = []
    for name, id in ids.items():
        mirrored = ids.get(pattern.sub(lambda match: opposites[match[1]], name))
        if mirrored is not None and id < mirrored:
            pairs.append([id, mirrored])
    return pairs


def read_ssv2(folder: Path) -> Annotated:
    """Something-something v2: labels.json `{"Doing something": "0"}`; train.json and validation.json
    `[{"id": "78687", "template": "Doing [something]", ...}]`, also under their longer official names.

    Documented at https://www.qualcomm.com/developer/software/something-something-v-2-dataset.
    """

    def find(name: str) -> Path:
        official = folder / f"something-something-v2-{name}"
        return official if official.is_file() else folder / name

    path = find("labels.json")
    ids = {name: _number(id, f"{path}: the id of {name!r}") for name, id in read_json(path, dict).items()}

    def samples(name: str) -> Iterator[Sample]:
        for _, id, template in _entries(find(name), ("id", "template"), "; the test set has no labels"):
            yield Sample((str(id),), (re.sub(r"[\[\]]", "", str(template)),))

    return Annotated.of(_in_order(ids.items(), path), samples("train.json"), samples("validation.json"))


def read_diving48(folder: Path) -> Annotated:
    """Diving48, the cleaned annotations V2: Diving48_vocab.json `[["Back", "15som", "05Twis", "FREE"], ...]`;
    Diving48_V2_train.json and Diving48_V2_test.json `[{"vid_name": "...", "label": 26, "start_frame": 0, ...}]`.

    Documented at http://www.svcl.ucsd.edu/projects/resound/dataset.html.
    """
    vocabulary = folder / "Diving48_vocab.json"
    dives = enumerate(read_json(vocabulary, list))
    names = [_dive_in_words(parts, f"{vocabulary}: entry {number + 1}") for number, parts in dives]

    def samples(name: str) -> Iterator[Sample]:
        for where, video, label in _entries(folder / name, ("vid_name", "label")):
            id = _number(label, f"{where}: label")
            if not 0 <= id < len(names):
                raise UserError(f"{where}: label {id} is outside 0..{len(names) - 1} of {vocabulary.name}")
            yield Sample((str(video),), (names[id],))

    return Annotated.of(names, samples("Diving48_V2_train.json"), samples("Diving48_V2_test.json"))


def read_jester(folder: Path) -> Annotated:
    """Jester v1: jester-v1-labels.csv, one class per line; jester-v1-train.csv and jester-v1-validation.csv, lines
    `34870;Drumming Fingers` without a header.

    Documented at https://www.qualcomm.com/developer/software/jester-dataset.
    """
    names = [name for _, name in read_lines(folder / "jester-v1-labels.csv")]

    def samples(name: str) -> Iterator[Sample]:
        for number, line in read_lines(folder / name):
            video, _, class_name = line.partition(";")
            if not video or not class_name:
                raise UserError(f'{folder / name}:{number}: "{line}" is not "ID;Class name"')
            yield Sample((video,), (class_name,))

    return Annotated.of(names, samples("jester-v1-train.csv"), samples("jester-v1-validation.csv"))


def read_moments(folder: Path) -> Annotated:
    """Moments in Time: moments_categories.txt, lines `applauding,0`; trainingSet.csv and validationSet.csv,
    lines `applauding/video.mp4,applauding,3,1` without a header: file, class, how many workers agreed and disagreed.

    Documented in the README.txt of the download. The videos are in training/ and validation/. A plus sign in a class
    name becomes a blank: "adult+male+speaking".
    """
    path = folder / "moments_categories.txt"
    ids = []
    for number, line in read_lines(path):
        name, _, id = line.rpartition(",")
        ids.append((name.replace("+", " "), _number(id, f'{path}:{number}: the id of "{line}"')))

    def samples(subset: str) -> Iterator[Sample]:
        source = folder / f"{subset}Set.csv"
        for number, line in read_lines(source):
            row = next(csv.reader([line]))
            if len(row) < 2 or "/" not in row[0]:
                raise UserError(f'{source}:{number}: "{line}" is not "class/video.mp4,class,agree,disagree"')
            stem = str(Path(row[0]).with_suffix(""))
            yield Sample((f"{subset}/{stem}",), (row[1].replace("+", " "),))

    return Annotated.of(_in_order(ids, path), samples("training"), samples("validation"))


def read_charades(folder: Path) -> Annotated:
    """Charades: Charades_v1_classes.txt, lines `c000 Holding some clothes`; Charades_v1_train.csv and
    Charades_v1_test.csv with the columns `id`, `actions` (`c092 11.90 21.20;c147 0.00 12.60`, in seconds), and others.

    Documented in the README.txt of the download. A video has each class that occurs in it, and some have none.
    """
    path = folder / "Charades_v1_classes.txt"
    by_code: dict[str, str] = {}
    for number, line in read_lines(path):
        code, _, name = line.partition(" ")
        if not re.fullmatch(r"c\d+", code) or not name:
            raise UserError(f'{path}:{number}: "{line}" is not "c000 Class name"')
        by_code[code] = name
    names = _in_order([(name, int(code[1:])) for code, name in by_code.items()], path)

    def samples(name: str) -> Iterator[Sample]:
        for where, row in read_columns(folder / name, ("id", "actions")):
            codes = [action.split()[0] for action in row["actions"].split(";") if action.strip()]
            if unknown := [code for code in codes if code not in by_code]:
                raise UserError(f"{where}: action {unknown[0]} is not in {path.name}")
            yield Sample((row["id"],), tuple(dict.fromkeys(by_code[code] for code in codes)))

    return Annotated.of(names, samples("Charades_v1_train.csv"), samples("Charades_v1_test.csv"))


ANNOTATED = {
    "ssv2": AnnotatedSet(
        "something-something-v2",
        "something-something v2",
        "labels.json, train.json, validation.json",
        read_ssv2,
        {"scale": list(SOMETHING_SCALE), "crop": "multi_scale"},
    ),
    "diving48": AnnotatedSet(
        "diving48", "Diving48", "Diving48_vocab.json, Diving48_V2_train.json, Diving48_V2_test.json", read_diving48
    ),
    "jester": AnnotatedSet(
        "jester", "Jester", "jester-v1-labels.csv, jester-v1-train.csv, jester-v1-validation.csv", read_jester
    ),
    "moments": AnnotatedSet(
        "moments", "Moments in Time", "moments_categories.txt, trainingSet.csv, validationSet.csv", read_moments
    ),
    "charades": AnnotatedSet(
        "charades",
        "Charades, multi-label",
        "Charades_v1_classes.txt, Charades_v1_train.csv, Charades_v1_test.csv",
        read_charades,
        {"multi_label": True},
    ),
}


def _dive_in_words(parts: Any, where: str) -> str:
    """["Back", "15som", "05Twis", "FREE"] -> "back takeoff, 1.5 somersaults, 0.5 twists, free position"."""
    fields = parts if isinstance(parts, list) and len(parts) == 4 else [""] * 4
    takeoff, somersaults, twists, position = map(str, fields)
    turns = re.fullmatch(r"(Dive|\d\d?som) (No|\d\d?)Twis", f"{somersaults} {twists}")
    if not turns or position not in DIVING48_POSITIONS:
        raise UserError(f'{where}: {parts} is not of the form ["Back", "15som", "05Twis", "FREE"]')
    how = "dive" if turns[1] == "Dive" else _counted(turns[1].removesuffix("som"), "somersault")
    twisting = "no twist" if turns[2] == "No" else _counted(turns[2], "twist")
    return f"{takeoff.lower()} takeoff, {how}, {twisting}, {DIVING48_POSITIONS[position]} position"


def _counted(digits: str, what: str) -> str:
    """("15", "twist") -> "1.5 twists"; the second digit is the decimal."""
    return f"{'.'.join(digits)} {what}{'s' * (digits != '1')}"


def _in_order(ids: Iterable[tuple[str, int]], path: Path) -> list[str]:
    """The names of (name, id) in the order of ids, which must be 0 to K - 1."""
    by_id = sorted((id, name) for name, id in ids)
    if not by_id or [id for id, _ in by_id] != list(range(len(by_id))):
        raise UserError(f"{path}: ids are not 0 to {max(len(by_id) - 1, 0)}")
    return [name for _, name in by_id]


def _number(value: Any, what: str) -> int:
    if not re.fullmatch(r"\d+", str(value)):
        raise UserError(f"{what} is {str(value)!r}, not an integer")
    return int(value)


def _entries(path: Path, keys: tuple[str, str], remark: str = "") -> Iterator[tuple[str, Any, Any]]:
    """("file: entry N", value, value) of the two keys of each entry of a JSON list."""
    for position, entry in enumerate(read_json(path, list), 1):
        where = f"{path}: entry {position}"
        absent = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        if absent:
            raise UserError(f'{where} has no "{absent[0]}"{remark}')
        yield where, entry[keys[0]], entry[keys[1]]
