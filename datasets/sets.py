"""Several data sets in one run (`data.sets`): their configs, common class ids, and shares of an epoch.

An epoch has as many clips as the training lists together, divided in proportion to the weights of the sets. Each set is
iterated in successive permutations, continued across epochs, so that no video is repeated before all others were used.
Without `data.sets` a run has a single set.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from datasets.entries import Entries
from datasets.lists import read_labels, tokenized_name
from utils.errors import UserError
from utils.project_paths import given
from utils.schema import Config, DataConfig

Side = Literal["train", "val"]
LISTS = ("train_root", "train_list", "val_root", "val_list", "label_list")


def with_sets(cfg: Config) -> Config:
    """The config with the number of classes of each set, and the total in `data.num_classes`. Raises a UserError if a
    label list is invalid."""
    data = cfg.data
    if not data.sets:
        return cfg
    sets = []
    for data_set in data.sets:
        num_classes = len(read_labels(given(data_set.label_list)))
        sets.append(data_set.model_copy(update={"num_classes": num_classes}))
    data = data.model_copy(update={"sets": sets, "num_classes": len(class_names(data))})
    return cfg.model_copy(update={"data": data})


def configs_of_sets(cfg: Config) -> list[Config]:
    """The config of each set as a separate run; `cfg` is from `with_sets`."""
    if not cfg.data.sets:
        return [cfg]
    configs = []
    for data_set in cfg.data.sets:
        update = {name: getattr(data_set, name) for name in (*LISTS, "num_classes")}
        data = cfg.data.model_copy(update={**update, "sets": []})
        configs.append(cfg.model_copy(update={"data": data}))
    return configs


def root_and_list(data: DataConfig, side: Side) -> tuple[str, str]:
    """Folder and path of the training or the validation list."""
    return (data.train_root, given(data.train_list)) if side == "train" else (data.val_root, given(data.val_list))


def class_names(data: DataConfig) -> list[str]:
    """The K class names of a run; merged names are spelled as in the first set."""
    return _label_space(data)[0] if data.sets else read_labels(given(data.label_list), data.num_classes)


def class_ids(data: DataConfig) -> list[list[int]]:
    """The class ids in the run of each set's classes."""
    return _label_space(data)[1]


def _label_space(data: DataConfig) -> tuple[list[str], list[list[int]]]:
    names: list[str] = []
    ids: list[list[int]] = []
    known: dict[str, int] = {}
    for data_set in data.sets:
        ids.append([])
        for name in read_labels(given(data_set.label_list)):
            key = tokenized_name(name)
            if data.label_space == "apart" or key not in known:
                known[key] = len(names)
                names.append(name)
            ids[-1].append(known[key])
    return names, ids


def join_sets(lists: Sequence[Entries], ids: Sequence[Sequence[int]]) -> Entries:
    """The entries of all sets, one set after another, with the class ids of the run; `ids` is from `class_ids`."""
    return Entries(
        entry._replace(label=run_ids[entry.classes[0]], of_set=number)
        for number, (entries, run_ids) in enumerate(zip(lists, ids, strict=True))
        for entry in entries
    )


def shares_of_sets(data: DataConfig, entries: Entries) -> list[tuple[int, int]]:
    """For each set its number of videos in `entries`, and of clips per epoch, which sum up to the number of `entries`.
    Raises a UserError if a set has no clips in an epoch."""
    sizes = np.bincount(entries.of_set, minlength=len(data.sets)).tolist()
    weights = []
    for data_set, size in zip(data.sets, sizes):
        if size == 0:
            raise UserError(f"data.sets: {data_set.name} has no training video with enough frames")
        weights.append(size if data_set.weight is None else data_set.weight)
    exact = len(entries) * np.array(weights) / np.sum(weights)
    num_clips = np.floor(exact).astype(int)
    largest_remainders = np.argsort(num_clips - exact, kind="stable")[: len(entries) - num_clips.sum()]
    num_clips[largest_remainders] += 1
    for data_set, count in zip(data.sets, num_clips):
        if count == 0:
            raise UserError(f"data.sets: the weight of {data_set.name} is too small for a clip per epoch; increase it")
    return list(zip(sizes, num_clips.tolist()))


def describe_sets(data: DataConfig, entries: Entries) -> str:
    """The share of each set in an epoch, for the summary of a run."""
    shares = zip(data.sets, shares_of_sets(data, entries))
    return ", ".join(f"{num_clips} of {size} {data_set.name} videos" for data_set, (size, num_clips) in shares)


def check_single_set(data: DataConfig, command: str) -> None:
    """Raise a UserError if a command for one data set gets several."""
    if data.sets:
        raise UserError(f"data.sets: {command} supports only one data set; use a config of one")
