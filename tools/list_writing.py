"""Writes annotation lists: finds samples on disk, numbers their classes, and reports missing ones."""

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datasets.entries import Entries, Label, ListEntry
from datasets.lists import MIN_TRAIN_FRAMES, drop_short_entries, read_labels, tokenized_name
from tools.list_sources import Sample
from tools.media_files import find_frame_folders, find_videos, list_fault
from utils.csv_files import write_csv
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.odd_names import printable
from utils.project_paths import REPOSITORY

LISTS_FOLDER = REPOSITORY / "lists"


def normal_form(class_name: str) -> str:
    """Normalise a class name for comparison: ignores case and replaces "_" by a space."""
    return tokenized_name(class_name.replace("_", " "))


class Labels:
    """Class names in order, and the id of each."""

    def __init__(self, names: Sequence[str], origin: str):
        self.names = list(names)
        self.origin = origin
        self.ids = {normal_form(name): id for id, name in enumerate(self.names)}
        if len(self.ids) != len(self.names):
            twice = [name for id, name in enumerate(self.names) if self.ids[normal_form(name)] != id]
            raise UserError(f"{origin}: classes that differ only in case or underscores: {', '.join(twice)}")

    def __contains__(self, class_name: str) -> bool:
        return normal_form(class_name) in self.ids

    def id(self, class_name: str) -> int:
        return self.ids[normal_form(class_name)]


def read_label_csv(path: Path) -> Labels:
    """The classes of a CSV `id,name`."""
    return Labels(read_labels(path), str(path))


def choose_labels(source_names: Iterable[str], label_csv: Path | None) -> Labels:
    """The order of classes: that of `label_csv`, otherwise of the shipped list with exactly these names, otherwise of
    `source_names`."""
    if label_csv is not None:
        return read_label_csv(label_csv)
    names = list(dict.fromkeys(source_names))
    forms = {normal_form(name) for name in names}
    for path in sorted(LISTS_FOLDER.glob("*.csv")):
        shipped = read_label_csv(path)
        if forms == set(shipped.ids):
            return shipped
    return Labels([name.replace("_", " ") for name in names], "the names found")


def compare_names(source_names: Iterable[str], labels: Labels) -> list[str]:
    """Differences between two sets of names, one line each, with the nearest name of the other set."""
    source = {normal_form(name): name for name in source_names}
    lines = []
    for form, name in source.items():
        if form not in labels.ids:
            nearest = difflib.get_close_matches(form, labels.ids, 1)
            hint = f'; the nearest is "{nearest[0]}"' if nearest else ""
            lines.append(f'"{name}" is not in {labels.origin}{hint}')
    absent = [name for name in labels.names if normal_form(name) not in source]
    if absent:
        lines.append(f"{len(absent)} classes of {labels.origin} do not occur: {some_of(absent)}")
    return lines


def some_of(names: Sequence[str]) -> str:
    """At most ten names, separated by commas."""
    return ", ".join(names[:10]) + " ..." * (len(names) > 10)


@dataclass(frozen=True)
class DiskClip:
    """A clip on disk: path relative to the root, and number of frames if it is a frame folder."""

    path: str
    num_frames: int | None


class Disk:
    """The videos (`kind` "video") or frame folders ("frames", with files named `template`) below a root."""

    def __init__(self, root: Path, kind: str, template: str):
        self.root, self.kind, self.template = root, kind, template
        self.by_name: dict[str, DiskClip] = {}  # path without the extension of a video
        self.faulty: dict[str, str] = {}  # path -> reason
        self.first_number = 1
        if not root.is_dir():
            raise UserError(f"{root}: no such folder")
        if kind == "frames":
            folders = find_frame_folders(root, template)
            self.by_name = {path: DiskClip(path, count) for path, count in folders.num_frames.items()}
            self.faulty = folders.faulty
            self.first_number = folders.first_number
        else:
            for path in find_videos(root):
                name = str(Path(path).with_suffix(""))
                if name in self.by_name:
                    self.faulty[path] = f"differs only in its extension from {self.by_name[name].path}"
                else:
                    self.by_name[name] = DiskClip(path, None)
        for name, clip in list(self.by_name.items()):
            if fault := list_fault(clip.path):
                del self.by_name[name]
                self.faulty[name] = fault
        if not self.by_name and not self.faulty:
            expected = f"folder with files such as {template.format(1)}" if kind == "frames" else "video file"
            raise UserError(f"{root}: contains no {expected}; see --kind, --template and --root")
        self.by_stem: dict[str, list[str]] = {}
        for name in [*self.by_name, *self.faulty]:
            self.by_stem.setdefault(name.rsplit("/", 1)[-1], []).append(name)

    def find(self, sample: Sample) -> tuple[DiskClip | None, str]:
        """(clip or None, reason). Searches by path, otherwise by file name in any folder."""
        forms = {normal_form(name) for name in sample.class_names}
        for candidate in sample.candidates:
            names = self.by_stem.get(candidate.rsplit("/", 1)[-1], [])
            if candidate in names:
                names = [candidate]
            if len(names) > 1:
                names = [name for name in names if forms & {normal_form(folder) for folder in name.split("/")}] or names
            if len(names) > 1:
                return None, f"found more than once: {', '.join(names[:3])}"
            if names:
                return self.by_name.get(names[0]), self.faulty.get(names[0], "")
        return None, "not found"


def new_entry(path: str, num_frames: int | None, label: Label, times: tuple[float, float] | None = None) -> ListEntry:
    """An entry for a new list."""
    # HMDB51 has files whose name begins with "#", at which a list line may not begin.
    return ListEntry(f"./{path}" if path.startswith("#") else path, num_frames, label, line=0, times=times)


Missing = list[tuple[str, str]]
"""(name, reason) of clips that are not in a list."""


def locate(samples: Sequence[Sample], disk: Disk, labels: Labels) -> tuple[list[ListEntry], Missing, int]:
    """(entries, missing ones, number of samples left out because their class is not among `labels`)."""
    entries, missing, num_other = [], [], 0
    for sample in samples:
        if not all(name in labels for name in sample.class_names):
            num_other += 1
            continue
        clip, reason = disk.find(sample)
        if clip is None:
            missing.append((sample.candidates[0], reason))
        else:
            ids = tuple(sorted(labels.id(name) for name in sample.class_names))
            entries.append(new_entry(clip.path, clip.num_frames, ids))
    return entries, missing, num_other


def write_list(out: Path, name: str, entries: Sequence[ListEntry], missing: Missing, labels: Labels) -> None:
    """Write OUT/name.txt and, if anything is missing, OUT/name_missing.csv, and print the counts."""
    if not entries and not missing:
        raise UserError(f"{name}: no clips found")
    if not entries:
        first, reason = missing[0]
        raise UserError(
            f"{name}: none of the {len(missing)} listed clips were found under --root; first: "
            f'"{first}" ({reason}); check --root'
        )
    write_text_atomic(out / f"{name}.txt", "".join(f"{entry.text}\n" for entry in entries))
    print(f"{out / f'{name}.txt'}: {len(entries)} clips")
    missing_path = out / f"{name}_missing.csv"
    missing_path.unlink(missing_ok=True)
    if missing:
        write_csv(missing_path, ("name", "reason"), [map(printable, row) for row in missing])
        total = len(entries) + len(missing)
        print(f"  left out: {len(missing)} of {total} are missing or unreadable, see {missing_path}")
    _, num_short = drop_short_entries(Entries(entries))
    if num_short:
        print(f"  {num_short} have fewer than {MIN_TRAIN_FRAMES} frames: training and validation skip them")
    present = {label for entry in entries for label in entry.classes}
    empty = [class_name for id, class_name in enumerate(labels.names) if id not in present]
    if empty:
        print(f"  no clip of {len(empty)} classes: {some_of(empty)}")


def write_labels(out: Path, labels: Labels) -> None:
    """Write labels.csv to the folder `out`, and print its path."""
    path = out / "labels.csv"
    write_csv(path, ("id", "name"), enumerate(labels.names), errors="strict")
    print(f"{path}: {len(labels.names)} classes, in the order of {labels.origin}")


def config_path(path: Path) -> str:
    """A path for a config: relative to the repository if possible, otherwise absolute."""
    return str(path if Path.cwd() == REPOSITORY else path.absolute())


def print_config(
    dataset: str, disk: Disk, labels: Labels, out: Path, lists: Mapping[str, tuple[Path, str]], keys: Mapping[str, Any]
) -> None:
    """Print the `data` block for a config.

    Args:
        lists: root and name by "train" and "val", if they exist.
        keys: further keys of `data`.
    """
    modality = "RGB" if disk.kind == "frames" else "video"
    data: dict[str, Any] = {"dataset": dataset, "modality": modality, "num_classes": len(labels.names)}
    if disk.kind == "frames":
        data |= {"image_tmpl": disk.template, "index_bias": disk.first_number}
    for part, (root, name) in lists.items():
        data |= {f"{part}_root": config_path(root), f"{part}_list": config_path(out / f"{name}.txt")}
    data["label_list"] = config_path(out / "labels.csv")
    text = yaml.safe_dump({"data": data}, sort_keys=False, default_flow_style=False, indent=2, width=math.inf)
    text += "".join(f"  {key}: {json.dumps(value)}\n" for key, value in keys.items())  # JSON is YAML, in one line
    print(f"\nFor the config, in place of its lines of the same names:\n\n{text}")
