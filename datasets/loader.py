"""A DataLoader whose batches cost one copy, and whose workers report users' mistakes in one line.

A batch leaves its worker as one buffer in shared memory, whatever the shapes of its clips: a tensor costs an open file
while it is in flight, and a copy of its bytes where its memory layout is changed.
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
from collections.abc import Iterator
from functools import cache, partial
from multiprocessing import connection
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from datasets.device_decoding import check_device_decodes, decode_jpegs
from datasets.device_pixels import eval_pixels, train_pixels
from datasets.lookahead import Pixels, make_ahead
from datasets.samplers import Batches, EvalBatches, TrainBatches
from datasets.transforms import EvalTransform, TrainTransform
from datasets.video_dataset import Item, SampleKey, Stored, VideoDataset
from utils.cores import num_cores
from utils.errors import MachineError, UserError
from utils.loaders import Batch, EvalBatch, Numbers, train_batch
from utils.memory import keep_freed_memory
from utils.schema import DataConfig
from utils.stop import SIGNALS

Loader = TypeVar("Loader", bound="ClipLoader")
AnyBatches = TypeVar("AnyBatches", bound=Batches)
log = logging.getLogger(__name__)
NO_SHARED_MEMORY = (
    "the loader processes ran out of shared memory; give the container more (docker run --shm-size=8g), enlarge "
    "/dev/shm, lower data.workers, or set data.workers=0"
)


class _Packed(NamedTuple):
    """A batch on its way from a worker."""

    flat: torch.Tensor  # uint8 (bytes of all frames,)
    shapes: list[tuple[int, ...]]  # of the readable clips, channels last, or (bytes,) of their files
    numbers: np.ndarray  # int64 (4,B): index, weight, is_faulty, repeat
    labels: np.ndarray  # int64 (B,), or multi-label float32 (B,K)
    faults: dict[int, str]  # by index
    stored: list[Stored]  # of the readable clips, where their pixels are made later


class ClipLoader(Generic[AnyBatches]):
    """The batches of one process, as `stacked` or `listed`.

    Their keys: frames, uint8 over channels-last memory, and those of `utils.loaders.Numbers`. Each clip that could not
    be read is logged once.

    Args:
        dataset: its items.
        batches: its batch sampler.
        data: `workers` is the number of loader processes, at most as many as this process may use cores; 0: it loads
            itself. With `pixels_on` and `decode_on` device, pixels are made on that of `to`, from what these hand over.

    Raises (while iterating):
        UserError: of an item, as raised in its worker.
        MachineError: a worker was killed, or found no shared memory.
        Exception: any other of a worker, of the same type, with its traceback in the message.
    """

    def __init__(self, dataset: VideoDataset, batches: AnyBatches, data: DataConfig):
        self.dataset = dataset
        self.batches = batches
        self._makes_pixels = data.pixels_on == "device"
        self._decodes_later = data.decode_on == "device"
        self._device = torch.device("cpu")
        self._logged: set[int] = set()
        self._has_frozen = False
        self._workers: set = set()  # processes
        workers = _usable(data.workers)
        # Forked workers start at once and share the list's memory; Python 3.14 would choose otherwise.
        fork = sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods()
        self._loader: DataLoader | None = DataLoader(
            _Fetch(dataset, self._makes_pixels, self._decodes_later),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_pack,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
            multiprocessing_context="fork" if workers > 0 and fork else None,
        )

    def __len__(self) -> int:
        """Batches of this process."""
        return len(self.batches)

    def to(self: "Loader", device: torch.device) -> "Loader":
        """Hand over frames on `device`, whose pixels it makes if the loader processes do not; the rest is on the CPU.

        Raises:
            UserError: data.decode_on is device, and this one does not decode.
        """
        if self._decodes_later:
            check_device_decodes(device)
        self._device = device
        return self

    def stacked(self) -> Iterator[Batch]:
        """Batches with the clips in one tensor (B,T,C,S,S); an unreadable one is another's of its class."""
        for packed, clips in self._with_pixels():
            self._log_faults(packed, "replaced by a clip of its class")
            frames = clips if isinstance(clips, torch.Tensor) else torch.stack(clips)
            yield train_batch(frames, _numbers(packed))

    def listed(self) -> Iterator[EvalBatch]:
        """Batches with one tensor (clips,T,C,H,W) a video; None for an unreadable one."""
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
        """The frames of the readable clips, on the device; made there where the loader processes have not."""
        transform, stored = self.dataset.transform, packed.stored
        if not stored:
            return _made_pixels(self._on_device(packed))
        files = [(part, one.jpegs) for part, one in zip(_parts(packed), stored) if one.jpegs is not None]
        decoded = iter(decode_jpegs(files, self._device) if files else ())
        parts = _parts(self._on_device(packed) if len(files) < len(stored) else packed)
        clips = [part.movedim(-1, -3) if one.jpegs is None else next(decoded) for part, one in zip(parts, stored)]
        clips = [clip.flatten(0, -4) for clip in clips]
        if isinstance(transform, TrainTransform):
            return train_pixels(clips, [one.draw for one in stored if one.draw is not None], transform)
        return eval_pixels([clip.unflatten(0, (self.dataset.num_clips, -1)) for clip in clips], transform)

    def _on_device(self, packed: _Packed) -> _Packed:
        return packed._replace(flat=packed.flat.to(self._device, non_blocking=True))

    def _packed(self) -> Iterator[_Packed]:
        self._keep_memory_shared()
        try:
            for packed in self._start():
                if isinstance(packed, Exception):
                    self.close()
                    raise packed
                yield packed
        except (ConnectionError, EOFError, RuntimeError) as error:  # PyTorch or the pipe may notice a worker's end
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
        # A worker inherits the mask: a signal to the whole process group must not end it before its first line.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        others, on_child = set(multiprocessing.active_children()), signal.getsignal(signal.SIGCHLD)
        try:
            return iter(self._loader)
        finally:
            self._workers |= set(multiprocessing.active_children()) - others
            signal.signal(signal.SIGCHLD, on_child)  # PyTorch's would raise wherever this process is at the moment
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _keep_memory_shared(self) -> None:
        """Before workers are forked: take what they inherit out of the garbage collection of all of them.

        A full collection writes to the header of every object, and a shared page that is written to is copied: some
        minutes into a run, each worker would hold its own copy of all that is loaded (tools/soak.py shows it).
        """
        assert self._loader is not None, "the loader is closed"
        if self._loader.num_workers > 0 and not self._has_frozen:
            self._has_frozen = True
            gc.collect()
            gc.freeze()
            atexit.register(gc.unfreeze)  # else libraries would call at exit what stayed alive a leak

    def close(self) -> None:
        """Stop the workers now; the loader is not usable afterwards.

        Left to the garbage collector, which may finalise their queues first, each would be waited for in vain.
        """
        self._loader = None

    def _log_faults(self, packed: _Packed, consequence: str) -> None:
        for index, fault in packed.faults.items():
            if index not in self._logged:
                log.error("unreadable, %s: %s", consequence, fault)  # an error reaches the console from every process
            self._logged.add(index)


class TrainClips(ClipLoader[TrainBatches]):
    """The loader of training (`utils.loaders.TrainLoader`)."""

    def start_epoch(self, epoch: int, start_sample: int = 0) -> None:
        self.batches.start(epoch, start_sample)

    def __iter__(self) -> Iterator[Batch]:
        return self.stacked()


class EvalClips(ClipLoader[EvalBatches]):
    """The loader of an evaluation (`utils.loaders.EvalLoader`); its data set has an `EvalTransform`."""

    def views(self, clip: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.dataset.transform, EvalTransform)
        return self.dataset.transform.views(clip)

    def __iter__(self) -> Iterator[EvalBatch]:
        return self.listed()


def _parts(packed: _Packed) -> list[torch.Tensor]:
    """The readable clips' frames, channels last, or their files' bytes; views of the buffer."""
    sizes = [math.prod(shape) for shape in packed.shapes]
    return [part.view(shape) for part, shape in zip(packed.flat.split(sizes), packed.shapes)]


def _made_pixels(packed: _Packed) -> Pixels:
    """The readable clips, channels before rows: one tensor where all have one shape, which copies nothing."""
    if len(set(packed.shapes)) == 1:
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
    """`workers`, but at most the number of cores, with one warning."""
    if workers > num_cores():
        what = "data.workers is %d, but only %d loader processes are started, one for each usable core"
        log.info(what, workers, num_cores())
    return min(workers, num_cores())


def _start_worker(worker_id: int) -> None:
    """A request to stop is the parent's to answer, even where it reaches the whole process group.

    SIGNALS are blocked, so a thread waits for the one that counts: the parent's SIGTERM, which ends this process.
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
    """The line for a worker that ended by itself."""
    if -exit_code == signal.SIGBUS:  # no memory behind a page of /dev/shm
        return NO_SHARED_MEMORY
    how = f"was killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with exit code {exit_code}"
    return (
        f"a loader process {how}; if memory ran out, lower data.workers or data.batch_size; continue with resume=auto"
    )


class _Fetch(torch.utils.data.Dataset):
    """Fetches a whole batch; the first UserError takes the batch's place.

    As a value: raised in a worker, it would arrive as a traceback in a string.
    """

    def __init__(self, dataset: VideoDataset, is_stored: bool, with_jpegs: bool):
        self._read = partial(dataset.stored, with_jpegs=with_jpegs) if is_stored else dataset.__getitem__

    def __getitems__(self, keys: list[SampleKey]) -> list[Item] | UserError:
        try:
            return [self._read(key) for key in keys]
        except UserError as error:
            return UserError(str(error))  # without the frames that the traceback holds


def _pack(items: list[Item] | UserError) -> _Packed | UserError | MachineError:
    """All frames in one flat uint8 buffer (in a worker: shared memory), channels last; all numbers in one array.

    The array travels through the pipe: for a tensor's shared memory there may be no space.
    """
    if isinstance(items, UserError):
        return items
    # (...,C,H,W) over channels-last memory: this view is contiguous, so the only copy is the one into the buffer.
    read = [item["frames"] for item in items if item["frames"] is not None]
    frames = [clip if clip.ndim == 1 else clip.movedim(-3, -1) for clip in read]  # the bytes of files as they are
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
    columns = [(x["index"], int(x["weight"]), x["fault"] is not None, x["repeat"]) for x in items]
    return _Packed(
        flat,
        shapes=[tuple(clip.shape) for clip in frames],
        numbers=np.array(columns, dtype=np.int64).T.copy(),
        labels=np.array([x["label"] for x in items]),
        faults={item["index"]: item["fault"] for item in items if item["fault"] is not None},
        stored=[item["stored"] for item in items if item["stored"] is not None],
    )
