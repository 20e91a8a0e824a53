"""Warnings about lists: leaks between training and validation, contradictory labels, classes without clips."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from datasets.lists import Label, ListEntry
from utils.schema import DataConfig

MAX_EXAMPLES = 3


def list_warnings(
    data: DataConfig, train: Sequence[ListEntry], val: Sequence[ListEntry], class_names: Sequence[str]
) -> list[str]:
    """Warnings about probable mistakes in the lists of a config (all their entries, K class names), a line each."""
    found = []
    for list_path, entries in ((data.train_list, train), (data.val_list, val)):
        labels: dict[str, set[Label]] = {}
        for entry in entries:
            labels.setdefault(entry.name, set()).add(entry.label)
        contradictory = [path for path, of_path in labels.items() if len(of_path) > 1]
        if contradictory:
            found.append(f"{list_path}: {_count(contradictory, 'video')} listed with different labels")
        counts = Counter((entry.name, entry.label) for entry in entries)
        repeated = [path for (path, _), count in counts.items() if count > 1]
        if repeated:
            found.append(f"{list_path}: {_count(repeated, 'video')} listed more than once")
    # The same file may be listed under two roots.
    training = {_place(data.train_root, entry.path) for entry in train}
    shared = [entry.path for entry in val if _place(data.val_root, entry.path) in training]
    if shared:
        found.append(f"{_count(shared, 'video')} of {data.val_list} also in {data.train_list}: scores will be too high")
    trained = {class_id for entry in train for class_id in entry.classes}
    empty = [name for label, name in enumerate(class_names) if label not in trained]
    if empty:
        found.append(f"{data.train_list}: {_count(empty, 'class', 'classes')} without a training clip")
    return found


def _place(root: str, path: str) -> str:
    return os.path.normpath(os.path.join(root, path))  # noqa: PTH118 - a Path for each entry takes ten times as long


def _count(examples: Iterable[str], one: str, many: str | None = None) -> str:
    examples = list(dict.fromkeys(examples))
    shown = ", ".join(examples[:MAX_EXAMPLES]) + (", ..." if len(examples) > MAX_EXAMPLES else "")
    return f"{len(examples)} {one if len(examples) == 1 else many or one + 's'} ({shown})"
