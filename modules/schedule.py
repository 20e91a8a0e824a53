"""Learning rate schedules as a function of the fractional epoch."""

import bisect
import math
from collections.abc import Sequence
from typing import ClassVar

from utils.schema import SolverConfig


class Decay:
    """The learning rate after the warm-up, by the choice of `solver.type`. Subclasses are not instantiated."""

    has_milestones: ClassVar[bool]  # whether it uses `solver.lr_decay_step`

    @staticmethod
    def factor(epoch: float, epochs: int, warmup_epochs: float, milestones: Sequence[int]) -> float:
        """The factor of the base learning rate at a fractional epoch after the warm-up."""
        raise NotImplementedError

    @staticmethod
    def rate(factor: float, lr: float, min_lr: float) -> float:
        """The learning rate at this factor."""
        raise NotImplementedError


class Cosine(Decay):
    """Half a cosine from `lr` to `min_lr` at `epochs` (Loshchilov & Hutter, SGDR, arXiv 1608.03983, eq. 5, one
    period)."""

    has_milestones = False

    @staticmethod
    def factor(epoch: float, epochs: int, warmup_epochs: float, milestones: Sequence[int]) -> float:
        return 0.5 * (1 + math.cos(math.pi * (epoch - warmup_epochs) / (epochs - warmup_epochs)))

    @staticmethod
    def rate(factor: float, lr: float, min_lr: float) -> float:
        return min_lr + (lr - min_lr) * factor


class MultiStep(Decay):
    """A tenth at each milestone reached, at least `min_lr`."""

    has_milestones = True

    @staticmethod
    def factor(epoch: float, epochs: int, warmup_epochs: float, milestones: Sequence[int]) -> float:
        return 0.1 ** bisect.bisect_right(milestones, epoch)

    @staticmethod
    def rate(factor: float, lr: float, min_lr: float) -> float:
        return max(lr * factor, min_lr)


SCHEDULES: dict[str, type[Decay]] = {"cosine": Cosine, "multistep": MultiStep}
"""Choices of `solver.type`."""


def lr_factor(epoch: float, kind: str, epochs: int, warmup_epochs: float, milestones: Sequence[int] = ()) -> float:
    """The factor of the base learning rate at a fractional epoch: linear warm-up from 0 over `warmup_epochs`, then
    that of `SCHEDULES[kind]`."""
    if epoch < warmup_epochs:
        return epoch / warmup_epochs
    return SCHEDULES[kind].factor(epoch, epochs, warmup_epochs, milestones)


def fractional_epoch(epoch: int, consumed_clips: int, clips_per_step: int, num_clips: int) -> float:
    """epoch + i / iterations, with i counted in clips, so that it does not depend on the number of processes.

    Args:
        consumed_clips: clips of this epoch already trained on, over all processes.
        clips_per_step: clips of one optimiser step, over all processes and accumulated batches.
        num_clips: clips of an epoch.
    """
    iterations = math.ceil(num_clips / clips_per_step)
    return epoch + consumed_clips / clips_per_step / iterations


class Schedule:
    """The learning rate over a run: `solver.lr` times `lr_factor` of the fractional epoch.

    Attributes:
        milestones: the epochs of a multistep decay.
    """

    def __init__(self, solver: SolverConfig):
        self._solver, step = solver, solver.lr_decay_step
        # Not used by the cosine, where it may be 0.
        self.milestones = list(range(step, solver.epochs, max(1, step))) if isinstance(step, int) else step

    def at(self, epoch: float) -> float:
        """The learning rate at a fractional epoch."""
        solver = self._solver
        share = lr_factor(epoch, solver.type, solver.epochs, solver.lr_warmup_step, self.milestones)
        if epoch < solver.lr_warmup_step:
            return solver.lr * share
        return SCHEDULES[solver.type].rate(share, solver.lr, solver.min_lr)
