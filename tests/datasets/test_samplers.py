import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datasets.samplers import Draws, EvalBatches, TrainBatches, balanced_order, epoch_permutation, plan_epoch, share_of
from datasets.video_dataset import SampleKey

sizes = st.integers(1, 60)
batch_sizes = st.integers(1, 7)
worlds = st.integers(1, 5)


def epoch_of(num_samples, batch_size, world_size, *, epoch=0, start_sample=0, seed=3) -> list[list[list[SampleKey]]]:
    """[step][rank] -> keys."""
    ranks = []
    for rank in range(world_size):
        batches = TrainBatches(num_samples, batch_size, world_size, rank, seed)
        batches.start(epoch, start_sample)
        ranks.append(list(batches))
        assert len(ranks[-1]) == len(batches)
    return [list(step) for step in zip(*ranks, strict=True)]


def real_indices(steps) -> list[int]:
    return [key.index for step in steps for keys in step for key in keys if key.real]


@given(sizes, batch_sizes, worlds)
def test_an_epoch_is_the_permutation_in_order_once(num_samples, batch_size, world_size):
    steps = epoch_of(num_samples, batch_size, world_size)
    assert real_indices(steps) == epoch_permutation(num_samples, 3, 0).tolist()
    assert sorted(real_indices(steps)) == list(range(num_samples))
    plan = plan_epoch(num_samples, batch_size, world_size)
    assert [sum(key.real for keys in step for key in keys) for step in steps] == plan
    assert all(size == batch_size * world_size for size in plan[:-1])
    for step, size in zip(steps, plan):
        lengths = [len(keys) for keys in step]
        assert max(lengths) - min(lengths) <= 1 and min(lengths) >= 1 and max(lengths) <= batch_size
        stand_ins = [key for keys in step for key in keys if not key.real]
        assert len(stand_ins) == max(0, world_size - size)
        assert all(key.index in {k.index for keys in step for k in keys if k.real} for key in stand_ins)


@given(sizes, batch_sizes, st.integers(0, 60), worlds)
def test_resuming_redistributes_the_remaining_samples(num_samples, batch_size, consumed, world_size):
    consumed = min(consumed, num_samples)
    steps = epoch_of(num_samples, batch_size, world_size, start_sample=consumed)
    assert real_indices(steps) == epoch_permutation(num_samples, 3, 0).tolist()[consumed:]
    assert sum(plan_epoch(num_samples, batch_size, world_size, consumed)) == num_samples - consumed


def test_global_batches_do_not_depend_on_the_number_of_processes():
    def contents(world_size):
        steps = epoch_of(23, 12 // world_size, world_size)
        return [[key.index for keys in step for key in keys if key.real] for step in steps]

    assert contents(1) == contents(2) == contents(3)


def test_epochs_and_seeds_differ_and_repeat():
    orders = [epoch_permutation(50, seed, epoch).tolist() for seed in (1, 2) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert epoch_permutation(50, 1, 1).tolist() == orders[1]


def test_the_permutation_does_not_share_the_stream_of_sample_zero():
    assert epoch_permutation(50, 1, 2).tolist() != np.random.default_rng([1, 2, 0]).permutation(50).tolist()


def test_starting_an_epoch_again_gives_the_same_keys():
    batches = TrainBatches(10, 2, 1, 0, seed=0)
    batches.start(4)
    first = list(batches)
    batches.start(5)
    assert list(batches) != first
    batches.start(4)
    assert list(batches) == first
    assert all(key.epoch == 4 for keys in first for key in keys)


@given(sizes, worlds)
def test_shares_are_consecutive(size, world_size):
    parts = [list(range(size))[share_of(size, world_size, rank)] for rank in range(world_size)]
    assert sum(parts, []) == list(range(size))


@given(sizes, batch_sizes, worlds)
def test_evaluation_batches_are_the_same_for_any_number_of_processes(num_samples, batch_size, world_size):
    ranks = [EvalBatches(num_samples, batch_size, world_size, rank) for rank in range(world_size)]
    dealt = [list(batches) for batches in ranks]
    assert [len(batches) for batches in ranks] == [len(batches) for batches in dealt]
    alone = list(EvalBatches(num_samples, batch_size, 1, 0))
    assert sorted(sum(dealt, [])) == alone
    assert [key.index for keys in alone for key in keys] == list(range(num_samples))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


class_lists = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(np.array)


@given(class_lists, st.integers(0, 3))
def test_a_balanced_epoch_has_each_class_equally_often(classes, epoch):
    order = balanced_order(classes, 3, epoch)
    assert len(order) == len(classes) and set(classes[order]) == set(classes)
    for members in (classes[order], *(order[classes[order] == c] for c in np.unique(classes))):
        counts = np.unique(members, return_counts=True)[1]
        assert counts.max() - counts.min() <= 1


@given(class_lists, batch_sizes, worlds, st.integers(0, 60))
def test_a_balanced_epoch_is_the_same_for_any_number_of_processes_and_resumed(classes, batch_size, world_size, start):
    start, draws = min(start, len(classes)), Draws(classes=classes)

    def keys(batch_size, world_size, start=0):
        made = [TrainBatches(len(classes), batch_size, world_size, rank, 3, draws) for rank in range(world_size)]
        for batches in made:
            batches.start(2, start)
        return [key for step in zip(*made, strict=True) for keys in step for key in keys if key.real]

    alone = keys(1, 1)
    assert keys(batch_size, world_size) == alone and keys(batch_size, world_size, start) == alone[start:]
    assert len(set(alone)) == len(alone), "each draw of a sample has its own random stream"


def test_balanced_epochs_differ():
    classes = np.arange(30) // 10
    assert balanced_order(classes, 3, 0).tolist() != balanced_order(classes, 3, 1).tolist()
