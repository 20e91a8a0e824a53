"""A DataLoader whose batches cost one copy, and whose workers' mistakes of the user arrive as one line.

A batch leaves its worker as one buffer in shared memory, whatever the shapes of its clips: a tensor costs an open file
while it is in flight, and a copy of its bytes where its memory layout is changed.
"""

import atexit
import gc
import logging
import math
import multiprocessing
import sys
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, get_worker_info

from datasets.samplers import EvalBatches, TrainBatches
from datasets.video_dataset import SampleKey, VideoDataset
from utils.errors import UserError
from utils.stop import first_to_say

log = logging.getLogger(__name__)
Batch = dict[str, torch.Tensor | list[torch.Tensor]]


class ClipLoader:
    """Iterates over batches of one process: {"frames", "label", "index", "weight", "is_faulty"}.

    Frames are uint8: in training (B,T,C,S,S), in evaluation a list of B tensors (clips,T,C,H,W); both over
    channels-last memory. label, index int64 (B,); weight float32 (B,); is_faulty bool (B,): the clip could not be read,
    and is another's (training) or None (evaluation). Each such clip is logged once.

    Args:
        dataset: its items.
        batches: its batch sampler.
        workers: loader processes; 0 loads in this process.
        stack: one tensor of frames (all of one shape), or a list.

    Raises (while iterating):
        UserError: of an item, as raised in its worker.
        RuntimeError: a worker died; the message says "DataLoader worker".
    """

    def __init__(self, dataset: VideoDataset, batches: TrainBatches | EvalBatches, *, workers: int, stack: bool):
        self.dataset = dataset
        self.batches = batches
        self._stack = stack
        self._told: set[int] = set()
        self._has_frozen = False
        # Forked workers start at once and share the list's memory; Python 3.14 would choose otherwise.
        fork = sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods()
        self._loader = DataLoader(
            _Fetch(dataset),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_pack,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            multiprocessing_context="fork" if workers > 0 and fork else None,
        )

    def __len__(self) -> int:
        """Batches of this process."""
        return len(self.batches)

    def start_epoch(self, epoch: int, start_sample: int = 0) -> None:
        """Training: the next iteration goes through `epoch`, from its sample `start_sample` on."""
        self.batches.start(epoch, start_sample)

    def views(self, clip: torch.Tensor) -> torch.Tensor:
        """The views of an evaluation clip, cut on its device: uint8 (1,T,C,H,W) -> (V,T,C,S,S)."""
        return self.dataset.transform.views(clip)

    def __iter__(self) -> Iterator[Batch]:
        self._keep_memory_shared()
        try:
            for packed in self._loader:
                if isinstance(packed, _Fault):
                    self.close()
                    raise UserError(packed.message)
                yield self._unpack(packed)
        except (ConnectionError, EOFError) as error:  # a worker that dies may be noticed by the pipe first
            raise RuntimeError(f"DataLoader worker died ({error})") from error

    def _keep_memory_shared(self) -> None:
        """Before workers are forked: take what they inherit out of the garbage collection of all of them.

        A full collection writes to the header of every object, and a shared page that is written to is copied: some
        minutes into a run, each worker would hold its own copy of all that is loaded (tools/soak.py shows it).
        """
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

    def _unpack(self, packed: dict) -> Batch:
        for index, fault in packed["faults"].items():
            if index not in self._told and first_to_say(fault):
                # An error, so that it reaches the console from every process.
                log.error("unreadable, %s: %s", "replaced by a clip of its class" if self._stack else "left out", fault)
            self._told.add(index)
        frames = []
        for flat, shape in zip(packed["flat"].split([math.prod(s) for s in packed["shapes"]]), packed["shapes"]):
            frames.append(flat.view(shape).movedim(-1, -3))
        if self._stack:
            frames = packed["flat"].view(len(frames), *packed["shapes"][0]).movedim(-1, -3)
        elif packed["faults"]:
            readable = iter(frames)
            frames = [None if i in packed["faults"] else next(readable) for i in packed["numbers"][1].tolist()]
        numbers = packed["numbers"]
        return {
            "frames": frames,
            "label": numbers[0],
            "index": numbers[1],
            "weight": numbers[2].to(torch.float32),
            "is_faulty": numbers[3].bool(),
        }


class _Fault:
    """A UserError on its way out of a worker, as a value: raised there, it would arrive as a traceback in a string."""

    def __init__(self, message: str):
        self.message = message


class _Fetch(torch.utils.data.Dataset):
    """Fetches a whole batch; the first UserError takes the batch's place."""

    def __init__(self, dataset: VideoDataset):
        self._dataset = dataset

    def __getitems__(self, keys: list[SampleKey]) -> list[dict] | _Fault:
        try:
            return [self._dataset[key] for key in keys]
        except UserError as error:
            return _Fault(str(error))


def _pack(items: list[dict] | _Fault) -> dict | _Fault:
    """All frames in one flat uint8 buffer (in a worker: shared memory), channels last; all numbers in one tensor."""
    if isinstance(items, _Fault):
        return items
    # (...,C,H,W) over channels-last memory: this view is contiguous, so the only copy is the one into the buffer.
    frames = [item["frames"].movedim(-3, -1) for item in items if item["frames"] is not None]
    size = sum(clip.numel() for clip in frames)
    if get_worker_info() is None:
        flat = torch.empty(size, dtype=torch.uint8)
    else:
        flat = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(size))
    for part, clip in zip(flat.split([clip.numel() for clip in frames]), frames):
        part.view(clip.shape).copy_(clip)
    columns = [(x["label"], x["index"], int(x["weight"]), x["fault"] is not None) for x in items]
    return {
        "flat": flat,
        "shapes": [tuple(clip.shape) for clip in frames],
        "numbers": torch.tensor(columns, dtype=torch.int64).T.contiguous(),
        "faults": {item["index"]: item["fault"] for item in items if item["fault"] is not None},
    }
