"""One epoch of training: exact over processes and accumulated batches.

Legend: B clips of a process's batch, N clips of an optimiser step over all processes and accumulated batches.

The loss of a step is the mean over its N clips. Each process sums the losses of its clips; DDP averages gradients over
processes, so the sum is multiplied by their number and divided by N.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel as DDP

from modules.heads.head import Head
from modules.interpolation import Interpolation
from modules.mixing import Mixing
from modules.optim import set_lr
from modules.schedule import Schedule, fractional_epoch
from modules.weight_average import WeightAverage
from utils.context import RunContext
from utils.distributed import sum_over_processes
from utils.errors import UserError
from utils.loaders import Batch, TrainLoader
from utils.memory import to_device
from utils.schema import Config

log = logging.getLogger(__name__)

# (model, batch) -> a loss whose mean over processes is the sum over the clips of this batch on all processes.
Objective = Callable[[nn.Module, Batch], torch.Tensor]


class StepRecord(NamedTuple):
    """Metrics of one optimiser step. `seconds` is its wall time, `wait_seconds` the part spent waiting for data.

    `stop`: a process received a request to stop; all processes have it in the same record. `num_skipped`: number of
    unreadable clips that were replaced. If the loss is not finite, the update was skipped.
    """

    step: int
    loss: float
    lrs: dict[str, float]
    num_clips: int
    seconds: float
    wait_seconds: float
    stop: bool = False
    num_skipped: int = 0


@dataclass
class Progress:
    """The progress of a run: current `epoch` (0-based), and `consumed_clips` of it."""

    epoch: int = 0
    consumed_clips: int = 0
    step: int = 0
    best_top1: float = -1.0  # mAP for multi-label runs
    skipped_clips: int = 0  # of this epoch, unreadable and replaced
    best_watched: float = -1.0  # of solver.patience_score
    stale_validations: int = 0  # in a row, without a better one
    validations: int = 0  # so far


@dataclass
class Trainer:
    """What does not change between steps. `model` is the model, which may be sharded, or its DDP wrapper."""

    cfg: Config
    model: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    context: RunContext
    average: WeightAverage | None = None
    mixing: Mixing | None = None
    interpolation: Interpolation | None = None
    num_nonfinite_steps: int = 0  # so far

    def __post_init__(self) -> None:
        self._heads = [module for module in self.model.modules() if isinstance(module, Head)]
        self._schedule = Schedule(self.cfg.solver)

    def run_epoch(
        self, loader: TrainLoader, progress: Progress, settle_after: Callable[[int], bool] = lambda step: False
    ) -> Iterator[StepRecord]:
        """Train on the rest of the epoch in `progress`, which is updated in every step.

        Ends early, one step after a request to stop.

        Args:
            loader: the loader of this process, started at `progress`.
            settle_after: steps whose record is yielded immediately, because the caller saves after them.

        Yields:
            A record for each optimiser step, one step late, so that reading the loss does not wait for the GPU.

        Raises:
            UserError: too many steps had a loss or gradient that is not finite, or too many clips are unreadable.
        """
        if progress.consumed_clips == 0:
            progress.skipped_clips = 0
        self.model.train()
        batch_sizes, num_clips = loader.batches.plan, len(loader.dataset)
        accumulation = self.cfg.solver.grad_accumulation_steps
        clips_per_step = self.cfg.data.batch_size * self.context.process.world_size * accumulation
        batches = iter(loader)
        record: StepRecord | None = None
        late: tuple[torch.Tensor, list[int], StepRecord] | None = None
        for first in range(0, len(batch_sizes), accumulation):
            sizes = batch_sizes[first : first + accumulation]
            started = time.perf_counter()
            epoch = fractional_epoch(progress.epoch, progress.consumed_clips, clips_per_step, num_clips)
            lrs = set_lr(self.optimizer, self._schedule.at(epoch))
            statistics, wait, indices = self._step(batches, sizes, progress)
            if self.average is not None:
                self.average.update(progress.step, ends_epoch=first + accumulation >= len(batch_sizes))
            progress.consumed_clips += sum(sizes)
            progress.step += 1
            if late:
                record = self._read(loader, progress, *late)
                yield record
            seconds = time.perf_counter() - started
            late = (statistics, indices, StepRecord(progress.step, 0.0, lrs, sum(sizes), seconds, wait))
            # The previous step has a request to stop. This one is not read, because another process may not have read
            # it yet, and all processes must stop after the same step.
            stop = record is not None and record.stop
            if settle_after(progress.step):
                record, late = self._read(loader, progress, *late), None
                yield record
            if stop:
                break
        if late:
            yield self._read(loader, progress, *late)

    def kept_weights(self) -> AbstractContextManager[None]:
        """Context in which the model has the weights to validate and save: their average if there is one."""
        return nullcontext() if self.average is None else self.average.applied()

    def _step(
        self, batches: Iterator[Batch], sizes: Sequence[int], progress: Progress
    ) -> tuple[torch.Tensor, float, list[int]]:
        """One optimiser step: statistics on the device, seconds waited for data, indices.

        Statistics: loss, gradient norm, number of processes with a request to stop, number of replaced clips.
        """
        wait, indices, num_skipped = 0.0, [], 0
        step_loss = torch.zeros((), device=self.context.device)
        consumed = progress.consumed_clips
        share = 0.0 if self.interpolation is None else self.interpolation.draw(progress.epoch, consumed)
        self._draw_for_step(progress.epoch, consumed)
        for number, size in enumerate(sizes):
            asked = time.perf_counter()
            batch = next(batches)
            wait += time.perf_counter() - asked
            indices += batch["index"].tolist()
            num_skipped += int((batch.pop("is_faulty") & (batch["weight"] > 0)).sum())
            draws = list(zip(batch["index"].tolist(), batch["repeat"].tolist())) if self.mixing else []
            batch = {name: to_device(tensor, self.context.device) for name, tensor in batch.items()}
            if self.mixing is not None:
                batch = self.mixing(batch, progress.epoch, draws)
            self._seed_dropout(progress.epoch, consumed)
            consumed += size
            is_last = number == len(sizes) - 1
            step_loss += self._backward(batch, sum(sizes), is_sent=is_last and self.interpolation is None)
            if self.interpolation is not None:
                with self.interpolation.applied(share):
                    self._backward(batch, sum(sizes), is_sent=is_last, weight=self.interpolation.weight)
        # All statistics are reduced at once, so that all processes see a request to stop at the same step.
        counts = torch.tensor([self.context.stop_requested(), num_skipped], dtype=step_loss.dtype)
        statistics = sum_over_processes(
            torch.cat([step_loss[None] / self.context.process.world_size, to_device(counts, step_loss.device)]),
            self.context.process,
        )
        norm = self._update(statistics[0])
        return torch.cat([statistics[:1], norm[None], statistics[1:]]), wait, indices

    def _backward(self, batch: Batch, num_clips: int, is_sent: bool, weight: float = 1.0) -> torch.Tensor:
        """Add `weight` times the gradient of a batch of a step with `num_clips` clips; returns the loss, detached.

        Args:
            is_sent: whether to average the accumulated gradients over the processes.
        """
        with self.model.no_sync() if isinstance(self.model, DDP) and not is_sent else nullcontext():
            with self.context.autocast():
                loss = weight * (self.objective(self.model, batch) / num_clips)
            self.scaler.scale(loss).backward()
        return loss.detach()

    def _update(self, loss: torch.Tensor) -> torch.Tensor:
        """Update the parameters, unless loss or gradient is not finite; returns the gradient norm.

        PyTorch's optimisers read a flag on the device (`found_inf`, also used by loss scaling) without synchronisation;
        timm's optimisers need one.
        """
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        if isinstance(norm, DTensor):  # sharded gradients
            norm = norm.full_tensor()
        if self.cfg.solver.clip_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.cfg.solver.clip_grad_norm, norm)
        is_finite = torch.isfinite(loss + norm)
        if self.scaler.is_enabled():  # it checks for overflows, which are expected
            self.scaler.step(self.optimizer)
        elif self.optimizer.defaults.get("fused"):
            vars(self.optimizer).update(grad_scale=None, found_inf=(~is_finite).float())
            self.optimizer.step()
        elif is_finite:
            self.optimizer.step()
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return torch.zeros_like(loss) if self.scaler.is_enabled() else norm.to(loss.dtype)

    def _draw_for_step(self, epoch: int, consumed_clips: int) -> None:
        # The same stream on all processes, which therefore draw the same values; resuming needs no state.
        generator = np.random.default_rng([self.cfg.seed, epoch, consumed_clips])
        for head in self._heads:
            head.draw(generator)

    def _seed_dropout(self, epoch: int, consumed_clips: int) -> None:
        # A separate stream per batch, so that a resumed run draws the same values without saved state.
        entropy = [self.cfg.seed, epoch, consumed_clips, self.context.process.rank]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1)

    def _read(
        self, loader: TrainLoader, progress: Progress, statistics: torch.Tensor, indices: list[int], record: StepRecord
    ) -> StepRecord:
        loss, norm, num_stopping, num_skipped = statistics.tolist()
        allowed, max_skipped_share = self.cfg.solver.max_nonfinite_steps, self.cfg.data.max_skipped_share
        if not np.isfinite(loss + norm):
            self.num_nonfinite_steps += 1
            paths = ", ".join(loader.dataset.entries[i].path for i in indices[:16])
            value = f"gradient's norm is {norm}" if np.isfinite(loss) else f"loss is {loss}"
            message = (
                f"step {record.step}: the {value}, so the update was skipped; clips in this process's batch: {paths}"
            )
            if self.num_nonfinite_steps > allowed:
                raise UserError(
                    f"{message}. Lower solver.lr, set solver.clip_grad_norm or solver.precision=fp32, and resume from "
                    f"the last checkpoint (solver.max_nonfinite_steps is {allowed})"
                )
            log.error("%s (%d of %d allowed)", message, self.num_nonfinite_steps, allowed)
        progress.skipped_clips += int(num_skipped)
        num_clips = len(loader.dataset)
        if progress.skipped_clips > max_skipped_share * num_clips:
            raise UserError(
                f"step {record.step}: {progress.skipped_clips} of the epoch's {num_clips} clips are unreadable, more "
                f"than data.max_skipped_share ({max_skipped_share}); python -m tools.check_data finds them all"
            )
        return record._replace(loss=loss, stop=num_stopping > 0, num_skipped=int(num_skipped))
