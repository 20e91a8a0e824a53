"""Learning rates as a function of the fractional epoch, and the position of a run in its epoch."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from utils.schema import SolverConfig


def milestones_of(decay_step: int | Sequence[int], epochs: int) -> list[int]:
    """The epochs of a multistep decay: a list as given, or every `decay_step` epochs."""
    if isinstance(decay_step, int):
        return list(range(decay_step, epochs, decay_step))
    return list(decay_step)


def lr_factor(epoch: float, kind: str, epochs: int, warmup_epochs: float, milestones: Sequence[int] = ()) -> float:
    """The share of the base learning rate at a fractional epoch.

    Linear warm-up from 0 over `warmup_epochs`; then for `cosine` half a cosine to 0 at `epochs` (Loshchilov & Hutter,
    SGDR, arXiv 1608.03983, eq. 5, one period), for `multistep` a tenth at each milestone reached.

    Args:
        epoch: 0 to `epochs`, fractional.
        kind: "cosine" or "multistep".
    """
    if epoch < warmup_epochs:
        return epoch / warmup_epochs
    if kind == "multistep":
        return 0.1 ** bisect.bisect_right(milestones, epoch)
    assert kind == "cosine", kind
    if epochs == warmup_epochs:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup_epochs) / (epochs - warmup_epochs)))


def fractional_epoch(epoch: int, consumed_clips: int, clips_per_step: int, num_clips: int) -> float:
    """epoch + i / iterations, with i counted in clips so that it holds for any number of processes.

    Args:
        consumed_clips: clips of this epoch already trained on, over all processes.
        clips_per_step: clips of one optimiser step, over all processes and accumulated batches.
        num_clips: clips of an epoch.
    """
    iterations = math.ceil(num_clips / clips_per_step)
    return epoch + consumed_clips / clips_per_step / iterations


@dataclass
class Schedule:
    """The learning rate's course: `lr` times `lr_factor` of the fractional epoch."""

    lr: float
    min_lr: float
    kind: str
    epochs: int
    warmup_epochs: float
    milestones: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, solver: SolverConfig) -> "Schedule":
        milestones = milestones_of(solver.lr_decay_step, solver.epochs) if solver.type == "multistep" else []
        return cls(solver.lr, solver.min_lr, solver.type, solver.epochs, solver.lr_warmup_step, milestones)

    def at(self, epoch: float) -> float:
        """The rate at a fractional epoch. After the warm-up the cosine ends at `min_lr`; multistep stays above it."""
        share = lr_factor(epoch, self.kind, self.epochs, self.warmup_epochs, self.milestones)
        if epoch < self.warmup_epochs:
            return self.lr * share
        if self.kind == "cosine":
            return self.min_lr + (self.lr - self.min_lr) * share
        return max(self.lr * share, self.min_lr)
