"""Batch samplers that are exact for any number of processes.

A global batch is batch_size * world_size consecutive entries of the epoch's permutation, of which each process takes a
consecutive, equal share. The last global batch may be smaller: it is split as evenly as possible, and a process without
a sample gets a placeholder (`real=False`, weight 0), so that all processes make the same number of steps. No sample is
dropped or counted twice.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from datasets.video_dataset import SampleKey


def epoch_permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """(num_samples,) int64: the order of an epoch, the same on every process."""
    # The spawn key makes this generator different from that of sample 0, which has the same seeds.
    return np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=(0,))).permutation(num_samples)


def balanced_order(classes: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """(num_samples,) int64: an epoch as long as the list, with the same number of samples of each class that occurs.

    The counts of classes differ by at most one, and so do those of the samples of a class; the remainder is random in
    each epoch. The same on every process.

    Args:
        classes: int (num_samples,), the class id of each sample.
    """
    # Different from the spawn keys of the order above, replacements and mixing.
    rng = np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=(3,)))
    present = rng.permutation(np.unique(classes))
    quota, num_larger = divmod(len(classes), len(present))
    samples = []
    for place, class_id in enumerate(present):
        members = np.flatnonzero(classes == class_id)
        times, rest = divmod(quota + (place < num_larger), len(members))
        samples += [np.tile(members, times), rng.permutation(members)[:rest]]
    return rng.permutation(np.concatenate(samples))


def order_of_sets(sets: Sequence[tuple[int, int]], seed: int, epoch: int) -> np.ndarray:
    """(N,) int64: the order of an epoch with shares of several sets, the same on every process.

    The samples of a set are iterated in successive permutations: epoch e has positions e*n to (e+1)*n of the sequence.

    Args:
        sets: number of samples of each set, and n per epoch, which sum up to N.
    """
    samples = []
    first = 0  # sample of the set
    for set_number, (size, num_clips) in enumerate(sets):
        begin = epoch * num_clips
        end = begin + num_clips
        permutations = []
        for repetition in range(begin // size, math.ceil(end / size)):
            # The spawn keys 0 to 4 are used by other draws.
            stream = np.random.SeedSequence([seed, repetition], spawn_key=(5, set_number))
            permutations.append(np.random.default_rng(stream).permutation(size))
        samples.append(first + np.concatenate(permutations)[begin % size :][:num_clips])
        first += size
    order = np.concatenate(samples)
    return order[epoch_permutation(len(order), seed, epoch)]


def plan_epoch(num_samples: int, batch_size: int, world_size: int, start_sample: int = 0) -> list[int]:
    """Sizes of the global batches of an epoch of `num_samples`, of which `start_sample` were already consumed, by any
    number of processes. `batch_size` is that of a process."""
    assert 0 <= start_sample <= num_samples
    global_batch = batch_size * world_size
    num_full, rest = divmod(num_samples - start_sample, global_batch)
    return [global_batch] * num_full + ([rest] if rest else [])


def share_of(global_batch: int, world_size: int, rank: int, unit: int = 1) -> slice:
    """The share of a global batch of one process: consecutive, as even as possible, possibly empty. `unit`: number of
    consecutive samples that stay together."""
    base, extra = divmod(math.ceil(global_batch / unit), world_size)
    begin = rank * base + min(rank, extra)
    return slice(unit * begin, min(unit * (begin + base + (rank < extra)), global_batch))


class Draws(NamedTuple):
    """How the samples of an epoch are selected.

    Attributes:
        repeats: number of repetitions of each sample; an epoch has correspondingly fewer different samples.
        are_paired: whether samples 2k and 2k+1 of the order stay in the same batch, as needed by mixup.
        classes: int (num_samples,), class ids to balance (`balanced_order`); None: each sample once.
        sets: (number of samples, number of clips per epoch) of each data set, in order; empty: one set.
    """

    repeats: int = 1
    are_paired: bool = False
    classes: np.ndarray | None = None
    sets: tuple[tuple[int, int], ...] = ()


ONCE = Draws()


def repeated_order(order: np.ndarray, repeats: int) -> np.ndarray:
    """(num_samples, 2) int64: sample, and number of earlier repetitions, for an epoch as long as `order` (num_samples,)
    in which samples are repeated `repeats` times. Two samples alternate (a b a b ...).
    """
    num_samples = len(order)
    pairs = np.resize(order, (math.ceil(num_samples / (2 * repeats)), 1, 2))
    samples = np.broadcast_to(pairs, (len(pairs), repeats, 2)).ravel()[:num_samples]
    by_sample = np.argsort(samples, kind="stable")
    _, first, counts = np.unique(samples[by_sample], return_index=True, return_counts=True)
    numbers = np.empty(num_samples, dtype=np.int64)
    numbers[by_sample] = np.arange(num_samples) - np.repeat(first, counts)
    return np.stack([samples, numbers], axis=1)


class Batches(Protocol):
    """The batches of one process: lists of SampleKey."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[SampleKey]]: ...


class TrainBatches:
    """Batch sampler for training: lists of SampleKey for one process. Call `start` before iterating."""

    def __init__(self, num_samples: int, batch_size: int, world_size: int, rank: int, seed: int, draws: Draws = ONCE):
        assert 0 <= rank < world_size and not (draws.are_paired and batch_size % 2)
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.world_size = world_size
        self.rank = rank
        self.seed = seed
        self._draws = draws
        self.start(0)

    def start(self, epoch: int, start_sample: int = 0) -> None:
        """Set the epoch of the next iteration, and its first sample."""
        self.epoch, self.start_sample = epoch, start_sample
        self.plan = plan_epoch(self.num_samples, self.batch_size, self.world_size, start_sample)

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order = self._order()
        unit = 2 if self._draws.are_paired else 1
        epoch = self.epoch
        position = self.start_sample
        for global_batch in self.plan:
            members = order[position : position + global_batch]
            mine = members[share_of(global_batch, self.world_size, self.rank, unit)].tolist()
            placeholder = SampleKey(epoch, int(members[0, 0]), real=False)
            yield [SampleKey(epoch, index, repeat=repeat) for index, repeat in mine] or [placeholder]
            position += global_batch

    def _order(self) -> np.ndarray:
        """(num_samples, 2), as of `repeated_order`."""
        if self._draws.sets:
            order = order_of_sets(self._draws.sets, self.seed, self.epoch)
        elif self._draws.classes is not None:
            order = balanced_order(self._draws.classes, self.seed, self.epoch)
        else:
            order = epoch_permutation(self.num_samples, self.seed, self.epoch)
            if self._draws.repeats == 1:  # each sample once: the same result, without sorting millions of them
                return np.stack([order, np.zeros_like(order)], axis=1)
        return repeated_order(order, self._draws.repeats)


class EvalBatches:
    """Batch sampler for evaluation: batches of consecutive samples, distributed to the processes in turn.

    The contents of batches, and therefore the embeddings, do not depend on the number of processes.
    """

    def __init__(self, num_samples: int, batch_size: int, world_size: int, rank: int):
        assert 0 <= rank < world_size
        self._begins = range(rank * batch_size, num_samples, world_size * batch_size)
        self._num_samples, self._batch_size = num_samples, batch_size

    def __len__(self) -> int:
        return len(self._begins)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for begin in self._begins:
            yield [SampleKey(0, index) for index in range(begin, min(begin + self._batch_size, self._num_samples))]
