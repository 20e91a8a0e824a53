"""Which samples make a batch, exactly, for any number of processes: pure functions of the seed, and two samplers.

A global batch is batch_size * world_size consecutive entries of the epoch's permutation; the processes take
consecutive, equal shares. The last global batch may be smaller: it is split as evenly as can be, and a process left
with nothing gets one stand-in (`real=False`, weight 0), so that every process makes the same number of steps. Nothing
is dropped or counted twice.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from datasets.video_dataset import SampleKey


def epoch_permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """(num_samples,) int64: the order of an epoch, the same on every process."""
    # The spawn key keeps this stream apart from that of sample 0, whose seeds are the same numbers.
    return np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=(0,))).permutation(num_samples)


def balanced_order(classes: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """(num_samples,) int64: an epoch as long as the list in which every class that occurs comes equally often.

    The counts of two classes differ by one at most, and so do those of two samples of a class; which come once more is
    drawn for each epoch. The same on every process.

    Args:
        classes: int (num_samples,), the class id of each sample.
    """
    # Not the spawn keys of the order above, of a clip's replacement and of its mixing.
    rng = np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=(3,)))
    present = rng.permutation(np.unique(classes))
    quota, num_larger = divmod(len(classes), len(present))
    draws = []
    for place, class_id in enumerate(present):
        members = np.flatnonzero(classes == class_id)
        times, rest = divmod(quota + (place < num_larger), len(members))
        draws += [np.tile(members, times), rng.permutation(members)[:rest]]
    return rng.permutation(np.concatenate(draws))


def order_of_sets(sets: Sequence[tuple[int, int]], seed: int, epoch: int) -> np.ndarray:
    """(N,) int64: the order of an epoch with shares of several sets, the same on every process.

    A set's samples come in one permutation after another, which the epochs share out: epoch e has the places e*n to
    (e+1)*n of that sequence.

    Args:
        sets: samples of each, and n, which sum up to N.
    """
    drawn, first = [], 0
    for number, (size, clips) in enumerate(sets):
        begin, end = epoch * clips, (epoch + 1) * clips
        passes = range(begin // size, -(-end // size))
        # The spawn keys 0 to 4 are those of other draws.
        streams = [np.random.SeedSequence([seed, one], spawn_key=(5, number)) for one in passes]
        orders = [np.random.default_rng(stream).permutation(size) for stream in streams]
        drawn.append(first + np.concatenate(orders)[begin - size * passes.start :][:clips])
        first += size
    samples = np.concatenate(drawn)
    return samples[epoch_permutation(len(samples), seed, epoch)]


def plan_epoch(num_samples: int, batch_size: int, world_size: int, start_sample: int = 0) -> list[int]:
    """Sizes of the global batches of an epoch, from its sample `start_sample` on.

    Args:
        num_samples: of the whole epoch.
        batch_size: per process.
        start_sample: samples of the epoch already consumed, by whatever number of processes.
    """
    left = num_samples - start_sample
    assert 0 <= start_sample <= num_samples
    full, rest = divmod(left, batch_size * world_size)
    return [batch_size * world_size] * full + ([rest] if rest else [])


def share_of(global_batch: int, world_size: int, rank: int, unit: int = 1) -> slice:
    """The part of a global batch that a process takes: consecutive, as even as can be; possibly empty.

    Args:
        unit: consecutive samples that stay together.
    """
    base, extra = divmod(math.ceil(global_batch / unit), world_size)
    begin = rank * base + min(rank, extra)
    return slice(unit * begin, min(unit * (begin + base + (rank < extra)), global_batch))


class Draws(NamedTuple):
    """What an epoch draws besides its order.

    Attributes:
        repeats: how often each of its samples comes; with more than 1 the epoch has as many fewer of them.
        are_paired: whether samples 2k and 2k+1 of the order stay in one batch of one process, as mixup needs them.
        classes: of `balanced_order`.
        sets: of each data set its samples, which follow each other, and how many of an epoch are its; as many in all as
            there are samples. Empty: one set.
    """

    repeats: int = 1
    are_paired: bool = False
    classes: np.ndarray | None = None  # int (num_samples,), class ids that come equally often; None: each sample once
    sets: tuple[tuple[int, int], ...] = ()


ONCE = Draws()


def repeated_order(order: np.ndarray, repeats: int) -> np.ndarray:
    """(num_samples, 2) int64: sample, and how often it came before, of an epoch as long as `order` (num_samples,) in
    which samples come `repeats` times as often. Two samples take turns (a b a b ...).
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
    """Batch sampler of training: lists of SampleKey for one process. `start` chooses the epoch before iterating."""

    def __init__(self, num_samples: int, batch_size: int, world_size: int, rank: int, seed: int, draws: Draws = ONCE):
        assert 0 <= rank < world_size and not (draws.are_paired and batch_size % 2)
        self._draws = draws
        self.num_samples, self.batch_size, self.world_size, self.rank = num_samples, batch_size, world_size, rank
        self.seed = seed
        self.start(0)

    def start(self, epoch: int, start_sample: int = 0) -> None:
        """The next iteration goes through `epoch` from its sample `start_sample` on."""
        self.epoch, self.start_sample = epoch, start_sample
        self.plan = plan_epoch(self.num_samples, self.batch_size, self.world_size, start_sample)

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order = repeated_order(self._order(), self._draws.repeats)
        unit = 2 if self._draws.are_paired else 1
        epoch, position = self.epoch, self.start_sample
        for global_batch in self.plan:
            members = order[position : position + global_batch]
            mine = members[share_of(global_batch, self.world_size, self.rank, unit)].tolist()
            stand_in = SampleKey(epoch, int(members[0, 0]), real=False)
            yield [SampleKey(epoch, index, repeat=number) for index, number in mine] or [stand_in]
            position += global_batch

    def _order(self) -> np.ndarray:
        if self._draws.sets:
            return order_of_sets(self._draws.sets, self.seed, self.epoch)
        if self._draws.classes is not None:
            return balanced_order(self._draws.classes, self.seed, self.epoch)
        return epoch_permutation(self.num_samples, self.seed, self.epoch)


class EvalBatches:
    """Batch sampler of evaluation: batches of consecutive samples, dealt to the processes in turn.

    The contents of each batch, and so each embedding, are the same whatever the number of processes.
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
