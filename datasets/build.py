"""Builds lists and loaders from a config."""

import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets import lists
from datasets.augmentations.augmentation import Augmentation
from datasets.clip_shards import clip_root
from datasets.entries import Entries, ListEntry
from datasets.frame_folder import count_frames
from datasets.frame_source import FrameSource
from datasets.loader import EvalClips, TrainClips
from datasets.readers import open_source
from datasets.samplers import Draws, EvalBatches, TrainBatches
from datasets.sets import Side, class_ids, configs_of_sets, join_sets, root_and_list, shares_of_sets
from datasets.transforms import EvalTransform, Resize, TrainTransform
from datasets.video_dataset import FrameChooser, ItemOptions, VideoDataset
from utils.errors import UserError
from utils.files import check_writable
from utils.project_paths import given, is_url
from utils.schema import Config, DataConfig

log = logging.getLogger(__name__)


class TrainEntries(NamedTuple):
    """The training clips of an epoch.

    Attributes:
        entries: as long as the full list; in few-shot training the selected entries, repeated.
        num_short: number of entries left out because they have fewer than 8 frames.
        picks: few-shot training: the selected entries, once each, to be saved in the run folder; otherwise None.
    """

    entries: Entries
    num_short: int
    picks: Entries | None


def read_entries(cfg: Config, list_path: str | Path) -> Entries:
    """All entries of an annotation list, in the format of `cfg.data.modality`. Raises a UserError for invalid lists."""
    return lists.read_list(
        list_path,
        cfg.data.num_classes,
        of_frames=cfg.data.modality == "RGB",
        allow_outside_root=cfg.data.allow_outside_root,
        multi_label=cfg.data.multi_label,
        has_times=cfg.data.list_times,
    )


class TestLists(NamedTuple):
    """Several test lists of one data set: `entries` has each video once, `by_list` the entries of each list."""

    entries: Entries
    by_list: dict[str, Entries]


def read_test_lists(cfg: Config, list_paths: list[str]) -> TestLists:
    """Read test lists that may share videos, such as a data set's official splits. Raises a UserError if a list is
    invalid, or a video has different labels in two lists."""
    by_list = {path: read_entries(cfg, path) for path in list_paths}
    union: dict[str, ListEntry] = {}
    for path, entries in by_list.items():
        for entry in entries:
            first = union.setdefault(entry.name, entry)
            if first.label != entry.label:
                raise UserError(
                    f"{path}:{entry.line}: {entry.name} has label {entry.label}, but {first.label} in another list"
                )
    return TestLists(Entries(union.values()), by_list)


def read_train_entries(cfg: Config) -> TrainEntries:
    """The training list without short entries, reduced to the few-shot selection if `cfg.data.shot` is set."""
    data = cfg.data
    entries, num_short = _read_sets(cfg, "train")
    if not data.shot:
        return TrainEntries(entries, num_short, None)
    positions = lists.pick_few_shot(entries.labels, data.shot, data.shot_seed)
    repeated = np.resize(positions, len(entries))
    return TrainEntries(entries[repeated], num_short, entries[positions])


def build_train_loader(cfg: Config, world_size: int = 1, rank: int = 0, entries: Entries | None = None) -> TrainClips:
    """The training loader of one process; call `loader.start_epoch(epoch, start_sample)` before each iteration.

    Args:
        entries: the entries of `read_train_entries(cfg)`; None: read them.

    Raises:
        UserError: the list is invalid, a decoder is not installed, or the cache folder cannot be created.
    """
    data = cfg.data
    if data.cached_draws and rank == 0 and not os.path.isdir(cfg.logging.cache_dir):  # noqa: PTH112 - never raises
        check_writable(cfg.logging.cache_dir, "logging.cache_dir", is_folder=True)
    if entries is None:
        entries = read_train_entries(cfg).entries
    choose = FrameChooser(
        "train", data.num_segments, data.seg_length, data.dense, data.random_shift, rule=data.frame_rule
    )
    dataset = VideoDataset(
        entries,
        _opener(configs_of_sets(cfg), "train"),
        choose,
        train_transform(cfg),
        ItemOptions(
            seed=cfg.seed,
            on_error="replace" if data.on_error == "skip" else "raise",
            num_classes=_multi_label_classes(cfg),
        ),
    )
    classes = entries.labels if data.sampling == "balanced" else None
    shares = tuple(shares_of_sets(data, entries)) if data.sets else ()
    draws = Draws(data.repeats, are_paired=data.mixup.is_on, classes=classes, sets=shares)
    batches = TrainBatches(len(entries), data.batch_size, world_size, rank, cfg.seed, draws)
    return TrainClips(dataset, batches, data)


def train_transform(cfg: Config) -> TrainTransform:
    """The transform of training clips."""
    data = cfg.data
    augmentations = [kind.of(cfg) for kind in Augmentation.listed().values()]
    return TrainTransform(
        resize=first_resize(cfg),
        input_size=input_size(cfg),
        multi_scale=data.crop == "multi_scale",
        area_range=(data.area_range[0], data.area_range[1]),
        flip_prob=data.flip,
        flip_pairs={label: other for pair in data.flip_pairs or [] for label, other in (pair, pair[::-1])},
        augmentations=tuple(one for one in augmentations if one is not None),
    )


@dataclass(frozen=True)
class Views:
    """The views of a video in a test: `num_clips` clips with `num_crops` (1, 3, 5 or 10) crops each.

    `dense` samples clips from windows of 128 frames; None: as in `data.dense`.
    """

    num_clips: int = 1
    num_crops: int = 1
    dense: bool | None = None


def build_eval_loader(
    cfg: Config,
    world_size: int = 1,
    rank: int = 0,
    views: Views | None = None,
    entries: Entries | None = None,
    allow_missing: bool = False,
) -> EvalClips:
    """The validation loader of one process; its `views` method takes the crops on the device.

    Args:
        views: the views of each video in a test. None: validation during training, with one view and without
            entries of fewer than 8 frames.
        entries: entries of the validation list, all of which are used; None: read the list.
        allow_missing: return None for an unreadable video instead of raising an error.

    Raises:
        UserError: the list is invalid, a decoder is not installed, or several clips with frame_rule linspace.
    """
    data = cfg.data
    set_configs = [cfg]
    if entries is None and views is None:
        set_configs = configs_of_sets(cfg)
        entries, _ = _read_sets(cfg, "val")
    else:
        val_list = given(data.val_list)
        entries = read_entries(cfg, val_list) if entries is None else entries
        entries = count_unknown_frames(data, entries, data.val_root, val_list)
    mode = "val" if views is None else "test"
    views = views or Views()
    num_clips = views.num_clips
    dense = data.dense if views.dense is None else views.dense
    if data.frame_rule == "linspace" and num_clips > 1 and not dense:
        raise UserError(
            f"data.frame_rule: linspace would use the same frames in all {num_clips} clips; test with one clip, or set "
            "it to segments"
        )
    choose = FrameChooser(mode, data.num_segments, data.seg_length, dense, num_clips=num_clips, rule=data.frame_rule)
    transform = EvalTransform(first_resize(cfg), input_size(cfg), views.num_crops)
    dataset = VideoDataset(
        entries,
        _opener(set_configs, "val"),
        choose,
        transform,
        ItemOptions(num_clips, cfg.seed, "miss" if allow_missing else "raise", _multi_label_classes(cfg)),
    )
    # The number of clips in a batch does not depend on the clips per video, unless a video has more.
    batches = EvalBatches(len(entries), max(1, data.batch_size // num_clips), world_size, rank)
    return EvalClips(dataset, batches, data)


def _opener(set_configs: list[Config], side: Side) -> partial:
    """A function that opens the source of an entry, with the reader in the config of its set."""
    openers = []
    for cfg in set_configs:
        root, list_path = root_and_list(cfg.data, side)
        if not is_url(root) and not Path(root or ".").is_dir():
            raise UserError(f"{root}: no such folder (the root of the paths in {list_path}); set data.*_root")
        if cfg.data.modality == "video":
            FrameSource.named(cfg.data.decoder).check_installed()
        openers.append(partial(open_source, cfg.data, clip_root(cfg.data, root), list_path=list_path))
    return partial(_open_of_set, openers)


def _open_of_set(openers: list[partial], entry: ListEntry) -> FrameSource:
    return openers[entry.of_set](entry)


def _read_sets(cfg: Config, side: Side) -> tuple[Entries, int]:
    """The entries of all sets with at least 8 frames, and the number of others."""
    entries_of_sets = []
    num_short = 0
    for set_cfg in configs_of_sets(cfg):
        root, list_path = root_and_list(set_cfg.data, side)
        entries = count_unknown_frames(set_cfg.data, read_entries(set_cfg, list_path), root, list_path)
        kept, num_dropped = lists.drop_short_entries(entries)
        if not kept:
            raise UserError(f"{list_path}: every entry has fewer than {lists.MIN_TRAIN_FRAMES} frames")
        entries_of_sets.append(kept)
        num_short += num_dropped
    entries = join_sets(entries_of_sets, class_ids(cfg.data)) if cfg.data.sets else entries_of_sets[0]
    return entries, num_short


def count_unknown_frames(data: DataConfig, entries: Entries, root: str, list_path: str) -> Entries:
    """Replace num_frames of 0, as in published lists, by the number of frames in the folder; logs how many. Raises a
    UserError if such a folder is missing or has no frames."""
    num_counted = (entries.num_frames == 0).sum()
    if not num_counted:
        return entries

    def counted(entry: ListEntry) -> ListEntry:
        if entry.num_frames != 0:
            return entry
        num_frames = count_frames(Path(root, entry.path), data.image_tmpl)
        if num_frames == 0:
            raise UserError(
                f"{list_path}:{entry.line}: num_frames is 0, so the frames in {Path(root, entry.path)} were "
                f"counted, but it contains no file such as {data.image_tmpl.format(data.index_bias)}; correct "
                "data.image_tmpl or the root folder, or remove the line"
            )
        return entry._replace(num_frames=num_frames)

    entries = Entries(map(counted, entries))
    log.info("%s: num_frames is 0 in %d lines; the frames in their folders were counted", list_path, num_counted)
    return entries


def _multi_label_classes(cfg: Config) -> int | None:
    return cfg.data.num_classes if cfg.data.multi_label else None


def first_resize(cfg: Config) -> Resize:
    """The first resize of all transforms."""
    data = cfg.data
    assert data.resize_size and data.resize_mode and data.interpolation and data.resizer, "see modules.pixels"
    if data.scale is not None:
        return Resize((data.scale[0], data.scale[1]), "squash", data.interpolation, data.resizer)
    return Resize(data.resize_size, data.resize_mode, data.interpolation, data.resizer)


def input_size(cfg: Config) -> int:
    """S, the side of transformed frames."""
    assert cfg.data.input_size is not None, "modules.pixels.with_preprocessing comes first"
    return cfg.data.input_size
