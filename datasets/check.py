"""Checks of the data before a run: all listed files exist, and some of them can be decoded."""

import logging
import os
from pathlib import Path

import numpy as np

from datasets.clip_shards import ClipShards, clip_root
from datasets.entries import Entries
from datasets.frame_source import describe
from datasets.sets import configs_of_sets
from datasets.video_dataset import SampleKey, VideoDataset
from utils.distributed import Process
from utils.errors import UserError
from utils.project_paths import given
from utils.runlog import progress_bar
from utils.schema import Config

NUM_SAMPLES = 16
log = logging.getLogger(__name__)


def check_clips(cfg: Config, train_set: VideoDataset, val_set: VideoDataset, process: Process) -> str:
    """Check that all clips of the lists exist and that some can be decoded; returns a summary. Raises a UserError if a
    clip is missing or corrupted; with data.on_error skip, if more than data.max_skipped_share of them are missing."""
    missing_share = cfg.data.max_skipped_share if cfg.data.on_error == "skip" else 0
    num_clips = 0
    for number, set_cfg in enumerate(configs_of_sets(cfg)):
        data = set_cfg.data
        train = train_set.entries[train_set.entries.of_set == number]
        train_root = clip_root(data, data.train_root)
        num_clips += check_present(train, train_root, given(data.train_list), process, missing_share)
        val = val_set.entries[val_set.entries.of_set == number]
        num_clips += check_present(val, clip_root(data, data.val_root), given(data.val_list), process)
    num_decoded = read_samples(train_set) + read_samples(val_set)
    return f"{num_clips} clips of the lists found, {num_decoded} of them decoded"


def check_present(
    entries: Entries, root: str | ClipShards, list_path: str, process: Process, missing_share: float = 0
) -> int:
    """Check that the file or folder of every entry exists, without opening it; returns their number.

    Args:
        entries: entries of the list `list_path`; repeated paths count once.
        root: root folder of the paths, or the shards.
        missing_share: share of entries that may be missing, with a warning.

    Raises:
        UserError: more are missing; it names the first and their number.
    """
    if isinstance(root, ClipShards):
        root.check_files()
    first_places: dict[str, int] = {}
    for place, entry in enumerate(entries):
        first_places.setdefault(entry.path, place)
    missing = []
    with progress_bar(len(first_places), "clip", f"checking the clips of {list_path}", process) as bar:
        for path, place in first_places.items():
            if isinstance(root, ClipShards):
                is_there = path in root
            else:  # str, because Path objects take ten times as long
                is_there = os.path.exists(os.path.join(root, path))  # noqa: PTH110, PTH118
            if not is_there:
                missing.append(place)
            bar.update()
    if missing:
        first = entries[missing[0]]
        listed_at = f"{list_path}:{first.line}"
        if isinstance(root, ClipShards):
            message = f"{describe(f'{root.root}/{first.path}', listed_at)}: not in {root.index_name}"
        else:
            kind = "file" if first.num_frames is None else "folder"
            message = f"{describe(Path(root) / first.path, listed_at)}: no such {kind}"
        if "\\" in first.path:
            message += " (list paths are separated by /, not by backslashes)"
        if len(missing) > 1:
            message += f" ({len(missing)} of {len(first_places)} are missing)"
        message += "; check data.train_root or data.val_root and the list"
        if len(missing) > missing_share * len(first_places):
            raise UserError(message)
        log.warning("WARNING: %s", message)
    return len(first_places) - len(missing)


def read_samples(dataset: VideoDataset) -> int:
    """Read up to NUM_SAMPLES items spread evenly over the list; returns their number. Raises a UserError if an item is
    missing or corrupted."""
    indices = np.unique(np.linspace(0, len(dataset) - 1, NUM_SAMPLES).astype(int))
    for index in indices:
        dataset[SampleKey(0, int(index))]
    return len(indices)
