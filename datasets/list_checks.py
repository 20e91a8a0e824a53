"""Warnings about lists: leaks between training and validation, contradictory labels, classes without clips."""

import os
from collections.abc import Iterable, Sequence

from datasets.entries import Label, ListEntry
from utils.schema import DataConfig

MAX_EXAMPLES = 3


def list_warnings(
    data: DataConfig, train: Sequence[ListEntry], val: Sequence[ListEntry], class_names: Sequence[str]
) -> list[str]:
    """Warnings about probable mistakes in the lists of a config (all their entries, K class names), a line each."""
    warnings = []
    for list_path, entries in ((data.train_list, train), (data.val_list, val)):
        first: dict[str, Label] = {}
        others: set[tuple[str, Label]] = set()
        contradictory, repeated = [], []
        for entry in entries:
            name = os.path.normpath(entry.name)  # "./a" is "a"
            if name not in first:
                first[name] = entry.label
            elif entry.label == first[name] or (name, entry.label) in others:
                repeated.append(name)
            else:
                others.add((name, entry.label))
                contradictory.append(name)
        if contradictory:
            warnings.append(f"{list_path}: {_count(contradictory, 'video')} listed with different labels")
        if repeated:
            warnings.append(f"{list_path}: {_count(repeated, 'video')} listed more than once")
    # The same file may be listed under two roots.
    training = {_place(data.train_root, entry.path) for entry in train}
    shared = [entry.path for entry in val if _place(data.val_root, entry.path) in training]
    if shared:
        videos = _count(shared, "video")
        warnings.append(f"{videos} of {data.val_list} also in {data.train_list}: scores will be too high")
    trained = {class_id for entry in train for class_id in entry.classes}
    empty = [name for label, name in enumerate(class_names) if label not in trained]
    if empty:
        warnings.append(f"{data.train_list}: {_count(empty, 'class', 'classes')} without a training clip")
    return warnings


def _place(root: str, path: str) -> str:
    return os.path.normpath(os.path.join(root, path))  # noqa: PTH118 - a Path for each entry takes ten times as long


def _count(examples: Iterable[str], singular: str, plural: str = "") -> str:
    """The number of different examples and the first of them, such as "2 videos (a.mp4, b.mp4)"."""
    examples = list(dict.fromkeys(examples))
    noun = singular if len(examples) == 1 else plural or f"{singular}s"
    more = ", ..." if len(examples) > MAX_EXAMPLES else ""
    return f"{len(examples)} {noun} ({', '.join(examples[:MAX_EXAMPLES])}{more})"
