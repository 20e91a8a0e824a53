"""Frame embeddings of a frozen image tower, cached on disk: computed once, then used in all epochs.

Legend: N clips, n clips of a part, B batch, T frames, C=3 channels, S input size, D embedding.

A folder `frames-<key>` contains the embeddings of one list; the key is a hash of the tower's weights, the list, the
sampling and the transform. It is divided into parts of PART_CLIPS consecutive clips and one random draw, written
atomically and independent of the process that computes them: an interrupted run computes the missing ones, and runs may
share a folder. Parts are small to limit what an interruption loses and how long processes wait for each other. A
second file per part has labels, which clips were unreadable and replaced, size and time of the clips' files, and a
checksum. Corrupted parts are recomputed, and so are clips whose file has changed or was unreadable.
"""

import errno
import io
import logging
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datasets.augmentations import AUGMENTATIONS
from datasets.clip_shards import ClipShards, clip_root
from datasets.entries import Entries
from datasets.loader import ClipLoader, EvalClips, TrainClips
from datasets.samplers import Batches, TrainBatches
from datasets.video_dataset import SampleKey, VideoDataset
from utils.context import RunContext
from utils.distributed import Process, any_process, gather_to_all
from utils.errors import MachineError, UserError, first_line
from utils.files import atomic_path
from utils.hashing import content_hash
from utils.loaders import Batch, EvalBatch, Numbers, train_batch
from utils.runlog import progress_bar
from utils.schema import Config, DataConfig
from utils.stop import Stopped

PART_CLIPS = 64
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)  # raised by NumPy for a corrupted part

# Keys of `data` that do not affect embeddings, in general or for one list. All other keys are assumed to.
_NO_EFFECT = {"workers", "batch_size", "cached_draws", "max_skipped_share", "mixup", "repeats", "sampling"}
_NO_EFFECT |= {"cache_dir", "cache_gb", "pixels_on"}
_TRAINING_ONLY = {"train_root", "train_list", "shot", "shot_seed", "random_shift", "flip", "grayscale", "area_range"}
_TRAINING_ONLY |= {"flip_pairs", "crop", "randaug", "color_jitter", "erasing", "on_error", "decode_on"}
_NO_EFFECT_ON = {"train": {"val_root", "val_list"}, "val": _TRAINING_ONLY}

log = logging.getLogger(__name__)

# uint8 clips (B,T,C,S,S) on any device -> float32 frame embeddings (B,T,D) on the CPU.
Encoder = Callable[[torch.Tensor], torch.Tensor]


def cached_loaders(
    cfg: Config, context: RunContext, train: TrainClips, val: EvalClips, encode: Encoder, tower_key: str
) -> tuple["CachedTrainClips", "CachedEvalClips"]:
    """Loaders of the same batches as `train` and `val`, with frame embeddings from disk instead of pixels.

    Missing parts are computed first, divided among the processes.

    Args:
        tower_key: hash of everything that `encode` depends on.

    Raises:
        Stopped: a process received a request to stop; finished parts are kept.
        UserError: a clip cannot be read (see data.on_error), or logging.cache_dir cannot be used.
    """
    caches = []
    num_train_draws = min(cfg.data.cached_draws, cfg.solver.epochs)  # others would not be used
    for name, loader, root, num_draws in (
        ("train", train, cfg.data.train_root, num_train_draws),
        ("val", val, cfg.data.val_root, 1),
    ):
        data = cfg.data.model_dump(exclude=_NO_EFFECT | _NO_EFFECT_ON[name])
        if name == "train":
            data |= {one: cfg.components[one] for one in AUGMENTATIONS if one in cfg.components}
        entries = [(entry.name, entry.num_frames, entry.label) for entry in loader.dataset.entries]
        key = content_hash([tower_key, name, data, cfg.seed, entries, PART_CLIPS])[:32]
        stamp_of = partial(_stamp, clip_root(cfg.data, root))
        folder = Path(cfg.logging.cache_dir) / f"frames-{key}"
        cache = FrameCache(folder, loader.dataset.entries, num_draws, stamp_of)
        log.info("frame embeddings (%s) are cached in %s", name, cache.folder)
        cache.fill(loader.dataset, encode, cfg.data, context)
        loader.close()
        caches.append(cache)
    cached_train = CachedTrainClips(train.dataset, train.batches, caches[0])
    return cached_train, CachedEvalClips(val.dataset, val.batches, caches[1])


class FrameCache:
    """The parts of one list: `num_draws` random draws of each of N clips (one for validation).

    Args:
        entries: the N clips.
        stamp_of: returns the stamp of a path, to detect changed clips.
    """

    def __init__(self, folder: Path, entries: Entries, num_draws: int, stamp_of: Callable[[str], tuple[int, int]]):
        self.folder = folder
        self.num_draws = num_draws
        self._entries = entries
        self._stamp_of = stamp_of
        self._open_draw = 0
        self._open: dict[int, Part] = {}

    def path(self, draw: int, part: int) -> Path:
        return self.folder / f"draw{draw:03d}-part{part:05d}.npy"

    def rows(self, draw: int, indices: np.ndarray) -> "Part":
        """Read the embeddings of clips `indices` (B,) in random draw `draw`."""
        clips = []
        for index in indices.tolist():
            part = self._part(draw, index // PART_CLIPS)
            clips.append([array[index % PART_CLIPS] for array in part])
        return Part._make(np.stack(arrays) for arrays in zip(*clips))

    def batch(self, keys: list[SampleKey]) -> tuple[torch.Tensor, Numbers]:
        """Frame embeddings (B,T,D) and the other tensors of a batch with the clips `keys`."""
        indices = np.array([key.index for key in keys])
        part = self.rows(keys[0].epoch % self.num_draws, indices)
        numbers: Numbers = {
            "label": torch.from_numpy(part.labels),
            "index": torch.from_numpy(indices),
            "weight": torch.tensor([float(key.real) for key in keys]),
            "is_faulty": torch.from_numpy(part.is_faulty),
            "repeat": torch.zeros(len(keys), dtype=torch.int64),
        }
        return torch.from_numpy(part.rows), numbers

    def _part(self, draw: int, part: int) -> "Part":
        if draw != self._open_draw:  # the number of mapped files is limited
            self._open_draw, self._open = draw, {}
        if part not in self._open:
            path = self.path(draw, part)
            try:
                self._open[part] = _read(path)
            except UNREADABLE as error:
                raise MachineError(
                    f"{path}: could not be read ({first_line(error)}); run the same command with resume=auto, which "
                    "recomputes what is corrupted"
                ) from error
        return self._open[part]

    def _missing(self, draw: int, part: int, stamps: np.ndarray) -> list[int]:
        """Positions in a part to compute: all if it is missing or corrupted, otherwise changed and unreadable clips."""
        path = self.path(draw, part)
        if not path.exists() and not _facts_path(path).exists():
            return list(range(len(stamps)))
        try:
            stored = _read(path, check=True)
        except UNREADABLE as error:
            log.warning("WARNING: %s is corrupted (%s); recomputing it", path, error)
            return list(range(len(stamps)))
        return np.flatnonzero(stored.is_faulty | (stored.stamps != stamps).any(axis=1)).tolist()

    def _work(self, process: Process) -> tuple[list["_Work"], int]:
        """The missing clips that this process computes (an equal share), and the total number of parts."""
        num_parts = -(-len(self._entries) // PART_CLIPS)
        places = [(draw, part) for draw in range(self.num_draws) for part in range(num_parts)]
        work: list[_Work] = []  # of the parts that this process has looked at
        with _usable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for draw, part in places[process.rank :: process.world_size]:
                entries = self._entries[part * PART_CLIPS : (part + 1) * PART_CLIPS]
                stamps = np.array([self._stamp_of(entry.path) for entry in entries])
                if missing := self._missing(draw, part, stamps):
                    work.append(_Work(draw, part, missing, stamps))
        work = [item for share in gather_to_all(work, process) for item in share]
        work.sort(key=lambda item: (item.draw, item.part))
        return work[process.rank :: process.world_size], len(places)

    def fill(self, dataset: VideoDataset, encode: Encoder, data: DataConfig, context: RunContext) -> None:
        """Compute missing parts; returns when all exist. Processes wait for each other after every part."""
        process = context.process
        work, num_parts = self._work(process)
        log.info("frame embeddings: this process computes %d of %d parts", len(work), num_parts)
        keys = [batch for item in work for batch in item.batches(data.batch_size)]
        data = data.model_copy(update={"workers": min(data.workers, len(keys))})
        loader = ClipLoader(dataset, keys, data).to(context.device)
        batches = loader.stacked()
        items = iter(work)
        is_stopped = False
        with progress_bar(len(keys) * process.world_size, "batch", "frame embeddings", process) as bar:
            # A process may have a part less than others, for which it waits.
            while any_process((item := next(items, None)) is not None, process):
                rows, labels, is_faulty = [], [], []
                for _ in item.batches(data.batch_size) if item else ():
                    if is_stopped := context.stop_requested():
                        break
                    batch = next(batches)
                    # Validation clips are (B,1,T,C,S,S), with one view.
                    frames = batch["frames"] if batch["frames"].ndim == 5 else batch["frames"][:, 0]
                    rows.append(encode(frames).numpy())
                    labels.append(batch["label"].numpy())
                    is_faulty.append(batch["is_faulty"].numpy())
                    bar.update(process.world_size)
                if any_process(is_stopped, process):
                    loader.close()
                    raise Stopped
                if item:
                    self._put(item, np.concatenate(rows), np.concatenate(labels), np.concatenate(is_faulty))
        loader.close()

    def _put(self, work: "_Work", rows: np.ndarray, labels: np.ndarray, is_faulty: np.ndarray) -> None:
        """Write a part after all or some of its clips were computed."""
        if len(work.missing) == len(work.stamps):
            self._write(work.draw, work.part, Part(rows, labels, is_faulty, work.stamps))
            return
        old = _read(self.path(work.draw, work.part))
        if (is_faulty & old.is_faulty[work.missing]).all() and (old.stamps == work.stamps).all():
            return  # all are still unreadable
        new = Part(old.rows.copy(), old.labels.copy(), old.is_faulty.copy(), work.stamps)
        new.rows[work.missing] = rows
        new.labels[work.missing] = labels
        new.is_faulty[work.missing] = is_faulty
        self._write(work.draw, work.part, new)

    def _write(self, draw: int, part: int, contents: "Part") -> None:
        path = self.path(draw, part)
        facts = contents._asdict()
        rows = np.ascontiguousarray(facts.pop("rows"))
        with _usable(self.folder):
            with atomic_path(path) as temporary:
                # np.save to a file would raise an error without errno if the disk is full.
                buffer = io.BytesIO()
                np.save(buffer, rows)
                temporary.write_bytes(buffer.getbuffer())
            with atomic_path(_facts_path(path)) as temporary, temporary.open("wb") as file:
                np.savez(file, **facts, checksum=_checksum(rows))


class Part(NamedTuple):
    """The contents of a part, or of some of its clips."""

    rows: np.ndarray  # float32 (n,T,D), frame embeddings
    labels: np.ndarray  # int64 (n,), or multi-label float32 (n,K)
    is_faulty: np.ndarray  # bool (n,): the clip was unreadable, and the embeddings are those of a replacement
    stamps: np.ndarray  # int64 (n,2), see `_stamp`


class _Work(NamedTuple):
    """A part of which clips must be computed."""

    draw: int
    part: int
    missing: list[int]  # positions in the part of the clips to compute
    stamps: np.ndarray  # of all clips of the part

    def batches(self, batch_size: int) -> list[list[SampleKey]]:
        keys = [SampleKey(self.draw, self.part * PART_CLIPS + position) for position in self.missing]
        return [keys[first : first + batch_size] for first in range(0, len(keys), batch_size)]


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """Raise a UserError that names the key of a folder that cannot be used. A full disk is raised unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"logging.cache_dir: {folder} cannot be used ({error.strerror}); choose another folder"
        ) from error


def _facts_path(path: Path) -> Path:
    return path.with_suffix(".npz")


def _stamp(root: str | ClipShards, path: str) -> tuple[int, int]:
    """Size in bytes and modification time in ns of a video or frame folder; -1 if it does not exist."""
    if isinstance(root, ClipShards):
        return root.stamp(path)
    try:
        status = os.stat(os.path.join(root, path))  # noqa: PTH116, PTH118 - many
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _checksum(rows: np.ndarray) -> int:
    return zlib.crc32(rows.view(np.uint8).reshape(-1).data)


def _read(path: Path, check: bool = False) -> Part:
    """Open a part; its rows are memory-mapped, so that processes share the page cache. Raises one of UNREADABLE if it
    is missing or corrupted."""
    header = np.load(path, mmap_mode="r", allow_pickle=False)
    # NumPy's memory map would keep a file descriptor open, and there may be more parts than descriptors.
    try:
        mapped = torch.from_file(str(path), shared=False, size=header.offset + header.nbytes, dtype=torch.uint8).numpy()
    except RuntimeError as error:  # raised by PyTorch if the file could not be opened or mapped
        raise OSError(errno.EIO, first_line(error), str(path)) from error
    rows = mapped[header.offset :].view(header.dtype).reshape(header.shape)
    with np.load(_facts_path(path), allow_pickle=False) as facts:
        part = Part(rows, facts["labels"], facts["is_faulty"], facts["stamps"])
        if check and _checksum(rows) != int(facts["checksum"]):
            raise ValueError("its checksum differs")
    return part


@dataclass
class CachedTrainClips:
    """A training loader of cached frame embeddings, float32 (B,T,D).

    Epoch e uses random draw e mod the number of draws.
    """

    dataset: VideoDataset
    batches: TrainBatches
    cache: FrameCache

    def __len__(self) -> int:
        return len(self.batches)

    def start_epoch(self, epoch: int, start_sample: int = 0) -> None:
        self.batches.start(epoch, start_sample)

    def __iter__(self) -> Iterator[Batch]:
        for keys in self.batches:
            frames, numbers = self.cache.batch(keys)
            yield train_batch(frames, numbers)


@dataclass
class CachedEvalClips:
    """An evaluation loader of cached frame embeddings, float32, B times (1,T,D)."""

    dataset: VideoDataset
    batches: Batches
    cache: FrameCache

    def views(self, clip: torch.Tensor) -> torch.Tensor:
        """The frame embeddings of a clip (1,T,D), unchanged, since they cannot be cropped."""
        return clip

    def __iter__(self) -> Iterator[EvalBatch]:
        for keys in self.batches:
            frames, numbers = self.cache.batch(keys)
            yield {"frames": list(frames[:, None]), **numbers}
