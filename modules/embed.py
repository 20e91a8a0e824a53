"""Embeds videos into a table, which is then scored, and reads and writes such tables.

Legend: N videos, B batch, V views, T frames, C,H,W image, S crop side, D embedding, R rows of a view.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

from utils.archives import check_archive_sizes
from utils.context import RunContext
from utils.distributed import any_process, gather_to_main
from utils.errors import UserError, first_line
from utils.files import atomic_path
from utils.loaders import Entry, EvalLoader, ListedVideos
from utils.runlog import progress_bar
from utils.stop import Stopped

LARGE = 2 * 2**30  # bytes of a table from which a warning is logged in advance
log = logging.getLogger(__name__)


class VideoTable(NamedTuple):
    """Embeddings of videos in the order of their list, in the form that the scorer needs (modules.scorers)."""

    paths: list[str]
    labels: np.ndarray  # int64 (N,); multi-label: (N,K), 1 for the classes of a video, else 0
    # float32, not normalised; NaN: unreadable. (N,D), mean over the views; or (N,V,R,D), R rows per view.
    embeddings: np.ndarray
    seconds: float  # of the whole pass
    views: tuple[int, int] = (1, 1)  # clips, and crops of each clip
    trained_classes: tuple[str, ...] = ()  # class names in the checkpoint
    text_tower: str = ""  # hash of the matching text tower; empty if it was trained
    recipe: str = ""  # the config of the test, as YAML
    scorer_state: Mapping[str, np.ndarray] = MappingProxyType({})  # the scorer's tensors

    @property
    def is_missing(self) -> np.ndarray:
        """bool (N,): videos that could not be read."""
        first_value = (slice(None), *[0] * (self.embeddings.ndim - 1))
        return np.isnan(self.embeddings[first_value])

    @property
    def config(self) -> dict[str, Any]:
        """The recipe as a nested dict; {} if there is none. Raises a ValueError if it is not a config."""
        try:
            config = yaml.safe_load(self.recipe) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"recipe is not valid YAML: {first_line(error)}") from error
        if not isinstance(config, dict):
            raise ValueError(f"recipe is {str(config)[:40]!r}, not a config")
        return config

    def describe(self, path: str | Path) -> str:
        """For the log: shape, size in memory, and size on disk as the file `path`."""
        size = " x ".join(map(str, self.embeddings.shape))
        in_memory, on_disk = self.embeddings.nbytes / 1e6, Path(path).stat().st_size / 1e6
        return f"{path}: {size} float32, {in_memory:.1f} MB in memory, {on_disk:.1f} MB on disk"


@torch.inference_mode()
def embed_videos(
    encode: Callable[[torch.Tensor], torch.Tensor],
    loader: EvalLoader,
    context: RunContext,
    clips_per_forward: int,
    description: str = "videos",
) -> VideoTable | None:
    """Embed every video of `loader` exactly once, over all processes.

    Args:
        encode: uint8 clips (B,T,C,S,S), or frame embeddings (B,T,D), to embeddings: (B,D), which are averaged over the
            views of a video, or (B,R,D), which are stored per view.
        clips_per_forward: views per forward pass, which bounds the memory for any V.

    Returns:
        The table on the main process, None on the others.

    Raises:
        UserError: no video can be read, or an embedding is zero or not finite.
        Stopped: on all processes, if one received a request to stop.
    """
    started, process = time.perf_counter(), context.process
    entries = loader.dataset.entries
    indices, embeddings, is_stopped = [], [], False
    with progress_bar(len(entries), "video", description, process) as bar:
        for batch in loader:
            if is_stopped := context.stop_requested():
                break
            readable = [frames for frames in batch["frames"] if frames is not None]
            bar.update(len(batch["index"]) * process.world_size)
            if not readable:
                continue
            with context.autocast():
                chunks = _chunks_of_views(readable, loader.views, clips_per_forward, context.device)
                per_view = torch.cat([encode(clips) for clips in chunks]).float()
            per_video = per_view.unflatten(0, (len(readable), -1))
            if per_view.ndim == 2:
                per_video = per_video.mean(dim=1)
            shape = len(entries), *per_video.shape[1:]
            if not embeddings and process.is_main and (size := 4 * math.prod(shape)) > LARGE:
                log.warning(
                    "the table of embeddings, %s float32, will take %.1f GiB of memory and disk",
                    " x ".join(map(str, shape)),
                    size / 2**30,
                )
            rows = batch["index"][~batch["is_faulty"]].numpy()
            is_sound = are_sound(per_video)
            if not is_sound.all():
                raise UserError(unsound_message(entries[rows[int((~is_sound).nonzero()[0])]].path))
            indices.append(rows)
            embeddings.append(per_video.cpu().numpy())
    if any_process(is_stopped, process):
        raise Stopped
    # The rows of a process without any batch are None.
    mine = (np.concatenate(indices), np.concatenate(embeddings)) if indices else None
    gathered = gather_to_main(mine, process)
    if gathered is None:
        return None
    shares = [share for share in gathered if share is not None]
    return _table(loader.dataset, shares, time.perf_counter() - started)


def are_sound(embeddings: torch.Tensor) -> torch.Tensor:
    """bool (N,): whether each of the embeddings (N,D) or (N,...,R,D) is finite, and one of its rows not zero."""
    norms = torch.linalg.vector_norm(embeddings, dim=-1)[:, None].flatten(1)
    return norms.isfinite().all(dim=1) & norms.any(dim=1)


def unsound_message(name: str) -> str:
    """The error for an embedding of the video `name` that is zero or not finite."""
    return (
        f"{name}: its embedding is zero or not finite, because of the weights or the precision; use another "
        "checkpoint or solver.precision=fp32"
    )


def _table(videos: ListedVideos, shares: list[tuple[np.ndarray, np.ndarray]], seconds: float) -> VideoTable:
    """Combine (indices, embeddings) of all processes in list order."""
    entries = videos.entries
    if not shares:
        raise UserError(f"none of the {len(entries)} videos can be read")
    order = np.concatenate([share[0] for share in shares])
    assert len(set(order)) == len(order), "each video must be embedded exactly once"
    rows = np.full((len(entries), *shares[0][1].shape[1:]), np.nan, dtype=np.float32)
    rows[order] = np.concatenate([share[1] for share in shares])
    return VideoTable([entry.name for entry in entries], label_array(entries, videos.num_classes), rows, seconds)


def label_array(entries: Sequence[Entry], num_classes: int | None) -> np.ndarray:
    """int64 (N,), the class of each entry; (N,K) of 0 and 1 for the entries of a multi-label list of K classes."""
    if num_classes is None:
        return np.array([entry.label for entry in entries], dtype=np.int64)
    labels = np.zeros((len(entries), num_classes), dtype=np.int64)
    for row, entry in zip(labels, entries):
        row[list(entry.classes)] = 1
    return labels


def _chunks_of_views(
    videos: list[torch.Tensor],
    cut: Callable[[torch.Tensor], torch.Tensor],
    clips_per_forward: int,
    device: torch.device,
) -> Iterator[torch.Tensor]:
    """All views of the videos (clips,T,C,H,W) in order, in batches (clips_per_forward,T,C,S,S) cropped on demand."""
    views: list[torch.Tensor] = []
    for clip in (clip for frames in videos for clip in frames.split(1)):
        views.extend(cut(clip.to(device, non_blocking=True)))
        while len(views) >= clips_per_forward:
            yield _stack(views[:clips_per_forward])
            views = views[clips_per_forward:]
    if views:
        yield _stack(views)


def _stack(views: list[torch.Tensor]) -> torch.Tensor:
    """(V,T,C,S,S) in channels-last memory, like the views; (V,T,D) for frame embeddings."""
    if views[0].ndim == 2:
        return torch.stack(views)
    return torch.stack([view.movedim(-3, -1) for view in views]).movedim(-1, -3)


def save_table(path: str | Path, table: VideoTable, text: np.ndarray, class_names: list[str]) -> None:
    """Write a table and the classifier that it was scored with to an .npz file, atomically.

    Args:
        text: float32 (K,D), class embeddings, or (K,S,D), S rows per class. class_names: K names.
    """
    values = {**table._asdict(), "text": text, "class_names": class_names}
    arrays: dict[str, Any] = {name: np.asarray(values[name], dtype=kind) for name, (kind, *_) in _ARRAYS.items()}
    arrays |= {f"{STATE}{name}": array for name, array in table.scorer_state.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


STATE = "scorer."  # prefix of the scorer's tensors
# Arrays of the file: dtype and axes, or alternative axes. Axes with the same letter have the same length.
_ARRAYS = {
    "paths": (np.str_, "N"),
    "labels": (np.int64, "N", "NK"),
    "embeddings": (np.float32, "ND", "NVRD"),
    "seconds": (np.float64, ""),
    "views": (np.int64, "2"),
    "trained_classes": (np.str_, "C"),
    "text_tower": (np.str_, ""),
    "recipe": (np.str_, ""),
    "text": (np.float32, "KD", "KSD"),
    "class_names": (np.str_, "K"),
}


def load_table(path: str | Path) -> tuple[VideoTable, np.ndarray, list[str]]:
    """Load a table, its class features (K,D) or (K,S,D), and class names, as written by `save_table`. Raises a
    UserError if the file is missing, corrupted or not a table."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such table of embeddings; test.py writes it as embeddings.npz")
    check_archive_sizes(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            # NumPy only reads as much as the array header says, and may not notice a wrong checksum.
            damaged = file.zip.testzip()
            if damaged is not None:
                raise ValueError(f"{damaged} has a different checksum")
            arrays = {name: file[name] for name in _ARRAYS}
            state = {name.removeprefix(STATE): file[name] for name in file.files if name.startswith(STATE)}
    except PermissionError:
        raise
    except Exception as error:  # zipfile, its decoders and NumPy's parser raise anything on arbitrary bytes
        raise UserError(
            f"{path}: corrupted, or not a table of embeddings ({first_line(error)}); run the test again"
        ) from error
    try:
        _check_arrays(arrays)
        text, class_names = arrays.pop("text"), arrays.pop("class_names").tolist()
        kept = ("labels", "embeddings")
        values: dict[str, Any] = {n: array if n in kept else array.tolist() for n, array in arrays.items()}
        values |= {name: tuple(values[name]) for name in ("views", "trained_classes")}
        table = VideoTable(**values, scorer_state=state)
        _ = table.config
    except ValueError as error:
        raise UserError(f"{path}: not a table of embeddings written by test.py ({error})") from error
    return table, text, class_names


def rows_of_entries(
    table: VideoTable, entries: Sequence[Entry], source: str, num_classes: int | None = None
) -> VideoTable:
    """The rows of list entries, in their order and with their labels. Raises a UserError if the table lacks one of
    them."""
    rows = {path: row for row, path in enumerate(table.paths)}
    missing = [entry.name for entry in entries if entry.name not in rows]
    if missing:
        raise UserError(
            f"{source}: {len(missing)} of the {len(entries)} listed videos are missing, such as {missing[0]}"
        )
    labels = label_array(entries, num_classes)
    chosen = table.embeddings[[rows[entry.name] for entry in entries]]
    return table._replace(paths=[entry.name for entry in entries], labels=labels, embeddings=chosen)


def _check_arrays(arrays: dict[str, np.ndarray]) -> None:
    """Check dtypes, shapes and values of the arrays of a table. Raises a ValueError."""
    lengths: dict[str, int] = {}
    for name, (kind, *choices) in _ARRAYS.items():
        array = arrays[name]
        axes = next((axes for axes in choices if len(axes) == array.ndim), choices[0])
        is_fit = np.issubdtype(array.dtype, kind) and array.ndim == len(axes)
        if not is_fit or any(lengths.setdefault(axis, size) != size for axis, size in zip(axes, array.shape)):
            wanted = ", ".join(f"{axis}={lengths[axis]}" if axis in lengths else axis for axis in axes)
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not {kind.__name__} ({wanted})")
        if array.size == 0 and name != "trained_classes":
            raise ValueError(f"{name} is empty")
    if lengths["2"] != 2 or arrays["views"].min() < 1:
        raise ValueError(f"views are {arrays['views'].tolist()}, not clips and crops")
    labels, highest = arrays["labels"], lengths["K"] - 1 if arrays["labels"].ndim == 1 else 1
    if not 0 <= labels.min() <= labels.max() <= highest:
        raise ValueError(f"labels are {labels.min()}..{labels.max()}, outside 0..{highest}")
    embeddings = torch.from_numpy(arrays["embeddings"])
    is_missing = embeddings.isnan().flatten(1).all(dim=1)
    for name, rows in (("embeddings", embeddings[~is_missing]), ("text", torch.from_numpy(arrays["text"]))):
        if num_unsound := int((~are_sound(rows)).sum()):
            raise ValueError(f"{num_unsound} of {len(arrays[name])} rows of {name} are zero or not finite")
    if labels.ndim == 2 and is_missing.any():
        raise ValueError(f"{int(is_missing.sum())} videos of a multi-label test have no embedding")
    if labels.ndim == 2 and not labels.any():
        raise ValueError("no video has a class, so mAP is not defined")
