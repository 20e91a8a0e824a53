"""Frame embeddings of a frozen image tower, kept on disk: computed once, trained from ever after.

Legend: N clips, n clips of a part, B batch, T frames, C=3 channels, S input size, D embedding.

A folder `frames-<key>` holds the embeddings of one list: the key covers the tower's weights, the list, the sampling and
the transform. Its parts, of PART_CLIPS consecutive clips and one random draw each, are files that are whole or absent
and the same whoever computes them: an interrupted run goes on with the missing ones, and runs may share a folder. Each
has a second file: labels, which clips were unreadable and replaced, a checksum. A damaged part is computed again, and
so is one with replaced clips, in case their files were repaired.
"""

import errno
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datasets.loader import Batch, ClipLoader
from datasets.samplers import EvalBatches, TrainBatches
from datasets.video_dataset import SampleKey, VideoDataset
from utils.distributed import Process, any_process
from utils.errors import UserError
from utils.files import atomic_path
from utils.hashing import content_hash
from utils.runlog import progress_bar
from utils.stop import Stopped

PART_CLIPS = 1024

# Keys of `data` without effect on any embedding, and on those of one list. A new key has an effect until it is here.
_NO_EFFECT = {"workers", "batch_size", "cached_draws", "max_skipped_share"}
_TRAINING_ONLY = {"train_root", "train_list", "shot", "shot_seed", "random_shift", "flip", "grayscale", "area_range"}
_NO_EFFECT_ON = {"train": {"val_root", "val_list"}, "val": {*_TRAINING_ONLY, "randaug", "on_error"}}

log = logging.getLogger(__name__)

# uint8 clips (B,T,C,S,S) on the CPU -> float32 frame embeddings (B,T,D) on the CPU.
Encoder = Callable[[torch.Tensor], torch.Tensor]


def cached_loaders(
    cfg, process: Process, train: ClipLoader, val: ClipLoader, encode: Encoder, tower_key: str, stop_requested
) -> tuple["CachedLoader", "CachedLoader"]:
    """Loaders of the same batches as `train` and `val`, whose frames are embeddings from disk.

    What is missing there is computed first, its parts dealt to the processes.

    Args:
        tower_key: hash of all that `encode` depends on.
        stop_requested: () -> bool.

    Raises:
        Stopped: some process was asked to stop; the parts that are finished stay.
        UserError: a clip cannot be read (see data.on_error), or logging.cache_dir not be used.
    """
    loaders = []
    for name, loader, num_draws in (("train", train, cfg.data.cached_draws), ("val", val, 1)):
        data = cfg.data.model_dump(exclude=_NO_EFFECT | _NO_EFFECT_ON[name])
        entries = [(entry.path, entry.num_frames, entry.label) for entry in loader.dataset.entries]
        key = content_hash([tower_key, name, data, cfg.seed, entries])[:32]
        cache = FrameCache(Path(cfg.logging.cache_dir) / f"frames-{key}", len(entries), num_draws)
        cache.fill(loader.dataset, encode, cfg.data.batch_size, cfg.data.workers, process, stop_requested, name)
        loader.close()
        loaders.append(CachedLoader(loader.dataset, loader.batches, cache, stack=name == "train"))
    return loaders[0], loaders[1]


def nothing_to_cut(frames: torch.Tensor) -> torch.Tensor:
    """In `make_views`' place where frames are embeddings: (1,T,D) -> (1,T,D)."""
    return frames


class FrameCache:
    """The parts of one list: `num_draws` random draws of each of N clips (one draw for validation)."""

    def __init__(self, folder: Path, num_clips: int, num_draws: int):
        self.folder, self.num_clips, self.num_draws = folder, num_clips, num_draws
        self._open: dict[tuple[int, int], Part] = {}

    def path(self, draw: int, part: int) -> Path:
        return self.folder / f"draw{draw:03d}-part{part:05d}.npy"

    def rows(self, draw: int, indices: np.ndarray) -> "Part":
        """Of clips `indices` (B,) in random draw `draw`."""
        found = [(self._part(draw, index // PART_CLIPS), index % PART_CLIPS) for index in indices.tolist()]
        return Part(*(np.stack([part[column][row] for part, row in found]) for column in range(3)))

    def _part(self, draw: int, part: int) -> "Part":
        if (draw, part) not in self._open:
            self._open[draw, part] = _read(self.path(draw, part))
        return self._open[draw, part]

    def _is_good(self, draw: int, part: int) -> bool:
        """Whether a part is there, whole, and of clips that could all be read."""
        path = self.path(draw, part)
        if not path.exists() and not _facts_path(path).exists():
            return False
        try:
            found = _read(path, check=True)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            log.warning("WARNING: %s is damaged (%s); it is computed again", path, error)
            return False
        return not found.is_faulty.any()

    def fill(
        self,
        dataset: VideoDataset,
        encode: Encoder,
        batch_size: int,
        workers: int,
        process: Process,
        stop_requested: Callable[[], bool],
        name: str,
    ) -> None:
        """Compute the parts that are missing; returns when all processes have theirs, and so all parts are there."""
        num_parts = -(-self.num_clips // PART_CLIPS)
        parts = [(draw, part) for draw in range(self.num_draws) for part in range(num_parts)]
        with _usable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            mine = [part for part in parts[process.rank :: process.world_size] if not self._is_good(*part)]
        log.info(
            "frame embeddings (%s): %d of %d parts to compute here, kept in %s",
            name,
            len(mine),
            len(parts),
            self.folder,
        )
        batches = _PartBatches(mine, self.num_clips, batch_size)
        loader = ClipLoader(dataset, batches, workers=min(workers, len(batches)), stack=True)
        is_stopped, rows, facts, batch_iterator = False, [], [], iter(loader)
        with progress_bar(len(batches) * process.world_size, "batch", f"embedding {name}", process) as bar:
            for part, is_last in batches.places():
                if is_stopped := stop_requested():
                    break
                batch = next(batch_iterator)
                # Validation's are (B,1,T,C,S,S): one view.
                frames = batch["frames"] if batch["frames"].ndim == 5 else batch["frames"][:, 0]
                rows.append(encode(frames).numpy())
                facts.append(torch.stack([batch["label"], batch["is_faulty"].long()]).numpy())
                bar.update(process.world_size)
                if is_last:
                    labels, is_faulty = np.concatenate(facts, axis=1)
                    self._write(part, Part(np.concatenate(rows), labels, is_faulty.astype(bool)))
                    rows, facts = [], []
        loader.close()
        if any_process(is_stopped, process):
            raise Stopped

    def _write(self, place: tuple[int, int], part: "Part") -> None:
        path = self.path(*place)
        with _usable(self.folder):
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.save(file, part.rows)
            with atomic_path(_facts_path(path)) as temporary, temporary.open("wb") as file:
                np.savez(file, labels=part.labels, is_faulty=part.is_faulty, checksum=_checksum(part.rows))


class Part(NamedTuple):
    """`rows`: frame embeddings float32 (n,T,D); `labels` int64 (n,); `is_faulty` bool (n,): of another clip."""

    rows: np.ndarray
    labels: np.ndarray
    is_faulty: np.ndarray


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """Names the key whose folder cannot be used. A full disk is no mistake in it and stays what it is."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"logging.cache_dir: {folder} cannot be used ({error.strerror}); name another folder"
        ) from error


def _facts_path(path: Path) -> Path:
    return path.with_suffix(".npz")


def _checksum(rows: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(rows).view(np.uint8).reshape(-1))


def _read(path: Path, check: bool = False) -> Part:
    """A part; its rows are mapped, not read: the operating system keeps in memory what fits, once for all processes.

    Raises:
        OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile: it is missing or damaged.
    """
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    with np.load(_facts_path(path), allow_pickle=False) as facts:
        part = Part(rows, facts["labels"], facts["is_faulty"])
        if check and _checksum(rows) != int(facts["checksum"]):
            raise ValueError("its checksum differs")
    return part


class _PartBatches:
    """Batch sampler of whole parts, (draw, part) each: no batch holds clips of two parts."""

    def __init__(self, parts: list[tuple[int, int]], num_clips: int, batch_size: int):
        self._batches = []
        for draw, part in parts:
            end = min((part + 1) * PART_CLIPS, num_clips)
            for first in range(part * PART_CLIPS, end, batch_size):
                last = min(first + batch_size, end)
                keys = [SampleKey(draw, index) for index in range(first, last)]
                self._batches.append(((draw, part), last == end, keys))

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return (keys for _, _, keys in self._batches)

    def places(self) -> list[tuple[tuple[int, int], bool]]:
        """Of each batch: its part, and whether it is the part's last."""
        return [(part, is_last) for part, is_last, _ in self._batches]


class CachedLoader:
    """A `ClipLoader` whose frames are embeddings from a cache: float32 (B,T,D) in training, else B times (1,T,D).

    Epoch e takes random draw e mod the number of draws.
    """

    def __init__(self, dataset: VideoDataset, batches: TrainBatches | EvalBatches, cache: FrameCache, stack: bool):
        self.dataset, self.batches = dataset, batches
        self._cache, self._stack = cache, stack

    def __len__(self) -> int:
        return len(self.batches)

    def start_epoch(self, epoch: int, start_sample: int = 0) -> None:
        self.batches.start(epoch, start_sample)

    def __iter__(self) -> Iterator[Batch]:
        for keys in self.batches:
            indices = np.array([key.index for key in keys])
            part = self._cache.rows(keys[0].epoch % self._cache.num_draws, indices)
            frames = torch.from_numpy(part.rows)
            yield {
                "frames": frames if self._stack else list(frames[:, None]),
                "label": torch.from_numpy(part.labels),
                "index": torch.from_numpy(indices),
                "weight": torch.tensor([float(key.real) for key in keys]),
                "is_faulty": torch.from_numpy(part.is_faulty),
            }

    def close(self) -> None:
        """Nothing to stop: there are no workers."""
