"""One epoch of training: exact over processes and accumulated batches.

Legend: B clips of a process's batch, N clips of an optimiser step over all processes and accumulated batches.

The loss of a step is the mean over its N clips. Each process adds up its own clips' losses; DDP averages gradients over
processes, so a process's sum is multiplied by their number and divided by N.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from utils.distributed import Process, sum_over_processes
from utils.errors import UserError
from utils.optim import set_lr
from utils.precision import autocast
from utils.schedule import fractional_epoch, lr_factor

# (model, batch) -> a loss whose mean over processes is the sum over the clips of this batch on all processes.
Objective = Callable[[nn.Module, dict], torch.Tensor]


@dataclass
class Progress:
    """Where a run stands: `epoch` is the one in progress (0-based), `consumed_clips` those of it that are done."""

    epoch: int = 0
    consumed_clips: int = 0
    step: int = 0
    best_top1: float = -1.0


class StepRecord(NamedTuple):
    """Figures of one optimiser step. `seconds` is its wall time, `wait_seconds` the part spent waiting for data.

    `stop`: some process was asked to stop; all processes see it in the same record.
    """

    step: int
    loss: float
    lrs: dict[str, float]
    num_clips: int
    seconds: float
    wait_seconds: float
    stop: bool = False


@dataclass
class Schedule:
    """The learning rate's course: `lr` times `utils.schedule.lr_factor` of the fractional epoch."""

    lr: float
    kind: str
    epochs: int
    warmup_epochs: float
    milestones: list[int] = field(default_factory=list)

    def at(self, epoch: float) -> float:
        return self.lr * lr_factor(epoch, self.kind, self.epochs, self.warmup_epochs, self.milestones)


@dataclass
class Trainer:
    """What stays the same from step to step.

    `model` is the bare model or its DDP wrapper; `global_batch` the clips of a full batch over all processes.
    """

    model: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    schedule: Schedule
    process: Process
    precision: str
    seed: int
    global_batch: int
    accumulation: int = 1
    clip_grad_norm: float | None = None
    stop_requested: Callable[[], bool] = lambda: False

    def run_epoch(
        self, loader, progress: Progress, settle_after: Callable[[int], bool] = lambda step: False
    ) -> Iterator[StepRecord]:
        """Train on what is left of the epoch in `progress`, which moves with every step.

        Ends early, one step after a request to stop.

        Args:
            loader: `datasets.loader.ClipLoader` of this process.
            settle_after: steps whose record comes at once: those after which the caller saves.

        Yields:
            A record for each optimiser step, one step late: reading a loss waits for the GPU, and by then it is done.

        Raises:
            UserError: the loss is not finite; names the step's clips.
        """
        self.model.train()
        loader.start_epoch(progress.epoch, progress.consumed_clips)
        batch_sizes, num_clips = loader.batches.plan, len(loader.dataset)
        clips_per_step = self.global_batch * self.accumulation
        batches = iter(loader)
        record: StepRecord | None = None
        late: tuple[torch.Tensor, list[int], StepRecord] | None = None
        for first in range(0, len(batch_sizes), self.accumulation):
            sizes = batch_sizes[first : first + self.accumulation]
            started = time.perf_counter()
            epoch = fractional_epoch(progress.epoch, progress.consumed_clips, clips_per_step, num_clips)
            lrs = set_lr(self.optimizer, self.schedule.at(epoch))
            figures, wait, indices = self._step(batches, sizes, progress)
            progress.consumed_clips += sum(sizes)
            progress.step += 1
            if late:
                record = self._read(loader, *late)
                yield record
            seconds = time.perf_counter() - started
            late = (figures, indices, StepRecord(progress.step, 0.0, lrs, sum(sizes), seconds, wait))
            # The step before this one asked to stop. Not this one, even where it is settled: another process may not
            # have read it yet, and all must leave after the same step.
            stop = record is not None and record.stop
            if settle_after(progress.step):
                record, late = self._read(loader, *late), None
                yield record
            if stop:
                break
        if late:
            yield self._read(loader, *late)

    def _step(
        self, batches: Iterator[dict], sizes: list[int], progress: Progress
    ) -> tuple[torch.Tensor, float, list[int]]:
        """One optimiser step: (loss, processes asked to stop) on the device, seconds waited for data, indices."""
        wait, indices = 0.0, []
        step_loss = torch.zeros((), device=self.process.device)
        consumed = progress.consumed_clips
        for number, size in enumerate(sizes):
            asked = time.perf_counter()
            batch = next(batches)
            wait += time.perf_counter() - asked
            indices += batch["index"].tolist()
            batch = {k: v.to(self.process.device, non_blocking=True) for k, v in batch.items()}
            self._seed_dropout(progress.epoch, consumed)
            consumed += size
            is_last = number == len(sizes) - 1
            with nullcontext() if is_last or self.process.world_size == 1 else self.model.no_sync():
                with autocast(self.precision, self.process.device):
                    loss = self.objective(self.model, batch) / sum(sizes)
                self.scaler.scale(loss).backward()
            step_loss += loss.detach()
        if self.clip_grad_norm is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        # Both figures travel in one message, so that all processes learn of a request to stop at the same step.
        figures = torch.stack([step_loss / self.process.world_size, step_loss.new_tensor(self.stop_requested())])
        return sum_over_processes(figures, self.process), wait, indices

    def _seed_dropout(self, epoch: int, consumed_clips: int) -> None:
        # A stream of its own for each batch: a resumed run draws what the unbroken one draws, with no state to keep.
        entropy = [self.seed, epoch, consumed_clips, self.process.rank]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1))

    def _read(self, loader, figures: torch.Tensor, indices: list[int], record: StepRecord) -> StepRecord:
        value, num_stopping = figures.tolist()
        # fp16's loss scaling is made to survive overflows: it skips the step and lowers the scale.
        if not np.isfinite(value):
            paths = ", ".join(loader.dataset.entries[i].path for i in indices[:16])
            raise UserError(
                f"step {record.step}: the loss is {value}; lower solver.lr, set solver.clip_grad_norm or "
                f"solver.precision=fp32, and go on from the last checkpoint. Clips of this process's batch: {paths}"
            )
        return record._replace(loss=value, stop=num_stopping > 0)
