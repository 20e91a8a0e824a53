"""Data loaders that copy each batch once, and whose workers report user mistakes in one line.

A worker sends a batch as one buffer in shared memory, even if the shapes of its clips differ, because each tensor in
flight needs an open file, and a change of memory layout a copy.
"""

import atexit
import gc
import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from functools import cache
from multiprocessing import connection
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from datasets.device_decoding import decode, kinds_decoded_on
from datasets.device_pixels import eval_pixels, train_pixels
from datasets.frame_source import Encoded
from datasets.lookahead import Pixels, make_ahead
from datasets.samplers import Batches, EvalBatches, TrainBatches
from datasets.transforms import EvalTransform, TrainTransform
from datasets.video_dataset import Item, SampleKey, Stored, VideoDataset
from utils.cores import num_cores
from utils.errors import MachineError, UserError
from utils.loaders import Batch, EvalBatch, Numbers, train_batch
from utils.memory import keep_freed_memory, return_freed_memory
from utils.schema import DataConfig
from utils.stop import SIGNALS

Loader = TypeVar("Loader", bound="ClipLoader")
AnyBatches = TypeVar("AnyBatches", bound=Batches)
log = logging.getLogger(__name__)
CLIPS_PER_TRIM = 5000
"""Clips read by a loader process until it returns freed memory, which takes as long as a few clips."""
NO_SHARED_MEMORY = (
    "the loader processes ran out of shared memory; increase that of the container (docker run --shm-size=8g), enlarge "
    "/dev/shm, lower data.workers, or set data.workers=0"
)


class _Packed(NamedTuple):
    """A batch as sent by a worker."""

    flat: torch.Tensor  # uint8 (bytes of all frames,)
    shapes: list[tuple[int, ...]]  # shapes of the readable clips, channels last, or (bytes,) of their files
    numbers: np.ndarray  # int64 (4,B): index, weight, is_faulty, repeat
    labels: np.ndarray  # int64 (B,), or multi-label float32 (B,K)
    faults: dict[int, str]  # by index
    stored: list[Stored]  # of the readable clips, if they are preprocessed on the device


class ClipLoader(Generic[AnyBatches]):
    """The batches of one process, from `stacked` or `listed`.

    Keys of a batch: frames, uint8 in channels-last memory, and those of `utils.loaders.Numbers`. Each unreadable clip
    is logged once.

    Args:
        data: `workers` is the number of loader processes, limited to the available CPU cores; 0: load in this process.
            With `pixels_on` device, frames are preprocessed on the device of `to`, and with `decode_on` device those of
            training are decoded there. Others never are, so that scores and errors do not depend on the device.

    Raises (while iterating):
        UserError: raised by an item in a worker.
        MachineError: a worker was killed, or ran out of shared memory.
        Exception: any other exception in a worker, of the same type, with its traceback in the message.
    """

    def __init__(self, dataset: VideoDataset, batches: AnyBatches, data: DataConfig):
        self.dataset = dataset
        self.batches = batches
        self._makes_pixels = data.pixels_on == "device"
        self._data = data
        self._device = torch.device("cpu")
        self._logged: set[int] = set()
        self._has_frozen = False
        self._workers: set = set()  # processes
        workers = _usable(data.workers)
        # Forked workers start fast and share the memory of the list; Python 3.14 has another default.
        can_fork = sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods()
        self._fetch = _Fetch(dataset, self._makes_pixels)
        self._loader: DataLoader | None = DataLoader(
            self._fetch,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_pack,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
            multiprocessing_context="fork" if workers > 0 and can_fork else None,
        )

    def __len__(self) -> int:
        """Batches of this process."""
        return len(self.batches)

    def to(self: "Loader", device: torch.device) -> "Loader":
        """Return frames on `device`, and preprocess them there if the workers do not; other tensors stay on the CPU.

        Raises:
            UserError: training frames are decoded on the device, and it does not support this.
        """
        if self._data.decode_on == "device" and isinstance(self.dataset.transform, TrainTransform):
            self._fetch.kinds = kinds_decoded_on(device, self._data.modality == "video")
        self._device = device
        return self

    def stacked(self) -> Iterator[Batch]:
        """Batches with the clips in one tensor (B,T,C,S,S); unreadable clips are replaced by others of their class."""
        for packed, clips in self._with_pixels():
            self._log_faults(packed, "replaced by a clip of its class")
            frames = clips if isinstance(clips, torch.Tensor) else torch.stack(clips)
            yield train_batch(frames, _numbers(packed))

    def listed(self) -> Iterator[EvalBatch]:
        """Batches with one tensor (clips,T,C,H,W) per video; None for unreadable ones."""
        for packed, clips in self._with_pixels():
            self._log_faults(packed, "left out")
            readable = iter(clips)
            frames = [None if index in packed.faults else next(readable) for index in packed.numbers[0].tolist()]
            yield {"frames": frames, **_numbers(packed)}

    def _with_pixels(self) -> Iterator[tuple[_Packed, Pixels]]:
        if self._makes_pixels or self._device.type == "cuda":
            return make_ahead(self._packed(), self._pixels, self._device)
        return ((packed, _made_pixels(packed)) for packed in self._packed())

    @torch.no_grad()
    def _pixels(self, packed: _Packed) -> Pixels:
        """The frames of the readable clips on the device, preprocessed there if the workers did not."""
        transform = self.dataset.transform
        stored = packed.stored
        if not stored:
            return _made_pixels(self._on_device(packed))
        encoded = [(part, clip.encoded) for part, clip in zip(_parts(packed), stored) if clip.encoded is not None]
        decoded = iter(decode(encoded, self._device))
        parts = _parts(self._on_device(packed) if len(encoded) < len(stored) else packed)
        clips = [part.movedim(-1, -3) if clip.encoded is None else next(decoded) for part, clip in zip(parts, stored)]
        clips = [clip.flatten(0, -4) for clip in clips]
        if isinstance(transform, TrainTransform):
            return train_pixels(clips, [clip.draw for clip in stored if clip.draw is not None], transform)
        return eval_pixels([clip.unflatten(0, (self.dataset.num_clips, -1)) for clip in clips], transform)

    def _on_device(self, packed: _Packed) -> _Packed:
        return packed._replace(flat=packed.flat.to(self._device, non_blocking=True))

    def _packed(self) -> Iterator[_Packed]:
        self._freeze_inherited_memory()
        try:
            for packed in self._start():
                if isinstance(packed, Exception):
                    self.close()
                    raise packed
                yield packed
        except (ConnectionError, EOFError, RuntimeError) as error:  # raised by PyTorch or the pipe when a worker exits
            ended = connection.wait([worker.sentinel for worker in self._workers], timeout=1)
            for worker in self._workers:
                if worker.sentinel in ended:
                    worker.join()
                    raise MachineError(_explain_end(worker.exitcode)) from error
            raise

    def _start(self) -> Iterator[_Packed | Exception]:
        assert self._loader is not None, "the loader is closed"
        if self._loader.num_workers == 0:
            return iter(self._loader)
        # Workers inherit the signal mask, so that a signal to the process group does not kill them while they start.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        handler = signal.getsignal(signal.SIGCHLD)
        other_children = set(multiprocessing.active_children())
        try:
            return iter(self._loader)
        finally:
            self._workers |= set(multiprocessing.active_children()) - other_children
            # PyTorch's handler would raise at an arbitrary place in this process.
            signal.signal(signal.SIGCHLD, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _freeze_inherited_memory(self) -> None:
        """Exclude existing objects from garbage collection before workers are forked.

        A full collection writes to the header of every object, which copies shared pages: after some minutes each
        worker would have its own copy of everything (measured by tools/soak.py).
        """
        assert self._loader is not None, "the loader is closed"
        if self._loader.num_workers > 0 and not self._has_frozen:
            self._has_frozen = True
            gc.collect()
            gc.freeze()
            atexit.register(gc.unfreeze)  # otherwise libraries report leaks at exit

    def close(self) -> None:
        """Stop the workers; the loader cannot be used afterwards.

        The garbage collector might finalise their queues first, and then wait for each worker until a timeout.
        """
        self._loader = None

    def _log_faults(self, packed: _Packed, consequence: str) -> None:
        for index, fault in packed.faults.items():
            if index not in self._logged:
                # Errors are shown on the console from every process.
                log.error("unreadable, %s: %s", consequence, fault)
            self._logged.add(index)


class TrainClips(ClipLoader[TrainBatches]):
    """Training loader (`utils.loaders.TrainLoader`)."""

    def start_epoch(self, epoch: int, start_sample: int = 0) -> None:
        self.batches.start(epoch, start_sample)

    def __iter__(self) -> Iterator[Batch]:
        return self.stacked()


class EvalClips(ClipLoader[EvalBatches]):
    """Evaluation loader (`utils.loaders.EvalLoader`) of a dataset with an `EvalTransform`."""

    def views(self, clip: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.dataset.transform, EvalTransform)
        return self.dataset.transform.views(clip)

    def __iter__(self) -> Iterator[EvalBatch]:
        return self.listed()


def _parts(packed: _Packed) -> list[torch.Tensor]:
    """The frames of the readable clips, channels last, or the bytes of their files; views of the buffer."""
    sizes = [math.prod(shape) for shape in packed.shapes]
    return [part.view(shape) for part, shape in zip(packed.flat.split(sizes), packed.shapes)]


def _made_pixels(packed: _Packed) -> Pixels:
    """The readable clips in (...,C,H,W) layout, as one tensor (without a copy) if all have the same shape."""
    if len(set(map(tuple, packed.shapes))) == 1:  # lists, where PyTorch up to 2.9 has pinned the batch
        return packed.flat.view(-1, *packed.shapes[0]).movedim(-1, -3)
    return [part.movedim(-1, -3) for part in _parts(packed)]


def _numbers(packed: _Packed) -> Numbers:
    index, weight, is_faulty, repeat = torch.from_numpy(packed.numbers)
    return {
        "label": torch.from_numpy(packed.labels),
        "index": index,
        "weight": weight.to(torch.float32),
        "is_faulty": is_faulty.bool(),
        "repeat": repeat,
    }


@cache
def _usable(workers: int) -> int:
    """`workers`, limited to the number of cores with one warning."""
    if workers > num_cores():
        log.info(
            "data.workers is %d, but only %d loader processes are started, one per available core", workers, num_cores()
        )
    return min(workers, num_cores())


def _start_worker(worker_id: int) -> None:
    """Ignore requests to stop, which the parent handles, even if they are sent to the process group.

    SIGNALS are blocked, and a thread waits for the SIGTERM of the parent, which ends this process.
    """
    keep_freed_memory()
    if sys.platform == "linux":  # elsewhere the sender of a signal is unknown
        parent = os.getppid()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Thread(target=_end_on_signal_of, args=(parent,), daemon=True).start()


def _end_on_signal_of(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _explain_end(exit_code: int) -> str:
    """The error for a worker that exited unexpectedly."""
    if -exit_code == signal.SIGBUS:  # /dev/shm is full
        return NO_SHARED_MEMORY
    end = f"was killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with exit code {exit_code}"
    return (
        f"a loader process {end}; if memory ran out, lower data.workers or data.batch_size; continue with resume=auto"
    )


class _Fetch(torch.utils.data.Dataset):
    """Fetch a batch; a UserError is returned in its place.

    If it were raised in a worker, it would arrive as a traceback in a string.

    Attributes:
        kinds: of frames that are decoded on the device.
    """

    def __init__(self, dataset: VideoDataset, is_stored: bool):
        self._dataset, self._is_stored = dataset, is_stored
        self._num_read = 0  # since memory was returned
        self.kinds: Collection[type[Encoded]] = ()

    def __getitems__(self, keys: list[SampleKey]) -> list[Item] | UserError:
        self._num_read += len(keys)
        if self._num_read >= CLIPS_PER_TRIM:
            self._num_read = 0
            return_freed_memory()
        try:
            return [self._dataset.stored(key, self.kinds) if self._is_stored else self._dataset[key] for key in keys]
        except UserError as error:
            return UserError(str(error))  # without the traceback, which keeps frames alive


def _pack(items: list[Item] | UserError) -> _Packed | UserError | MachineError:
    """Pack all frames into one flat uint8 buffer (shared memory in a worker), channels last, and all numbers in an
    array.

    The array is sent through the pipe, since shared memory for another tensor may not be available.
    """
    if isinstance(items, UserError):
        return items
    # (...,C,H,W) over channels-last memory: this view is contiguous, so the only copy is the one into the buffer.
    readable = [item["frames"] for item in items if item["frames"] is not None]
    frames = [clip if clip.ndim == 1 else clip.movedim(-3, -1) for clip in readable]  # the bytes of files are unchanged
    size = sum(clip.numel() for clip in frames)
    if get_worker_info() is None:
        flat = torch.empty(size, dtype=torch.uint8)
    else:
        try:
            flat = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(size))
        except RuntimeError as error:
            if "shared memory" not in str(error):
                raise
            return MachineError(NO_SHARED_MEMORY)
    for part, clip in zip(flat.split([clip.numel() for clip in frames]), frames):
        part.view(clip.shape).copy_(clip)
    numbers = [(item["index"], int(item["weight"]), item["fault"] is not None, item["repeat"]) for item in items]
    return _Packed(
        flat,
        shapes=[tuple(clip.shape) for clip in frames],
        numbers=np.array(numbers, dtype=np.int64).T.copy(),
        labels=np.array([item["label"] for item in items]),
        faults={item["index"]: item["fault"] for item in items if item["fault"] is not None},
        stored=[item["stored"] for item in items if item["stored"] is not None],
    )
