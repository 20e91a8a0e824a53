"""Colour jitter, erasing, repeated augmentation and pairs: one draw per clip, the same in all processes."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from datasets.augmentations import apply_operation, draw_erased, draw_jitter, draw_randaug
from datasets.samplers import Draws, TrainBatches, epoch_permutation
from datasets.transforms import Resize, TrainTransform
from datasets.video_dataset import SampleKey
from utils.data_sections import ColorJitterConfig, ErasingConfig


def frames_of(num_frames: int = 3, size: int = 24) -> torch.Tensor:
    """The same picture in each frame."""
    picture = np.random.default_rng(0).integers(0, 256, (3, size, size), dtype=np.uint8)
    return torch.from_numpy(picture).expand(num_frames, -1, -1, -1)


def jittered(frames: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    for operation in draw_jitter(ColorJitterConfig(prob=1.0), rng):
        frames = apply_operation(frames, operation)
    return frames


def erased(frames: torch.Tensor, rng: np.random.Generator, **how) -> torch.Tensor:
    drawn = draw_erased(ErasingConfig(prob=1.0, **how), frames.shape[-1], rng)
    return drawn.apply(frames.clone())


@pytest.mark.parametrize("augment", [jittered, erased])
def test_all_frames_share_one_draw_of_the_generator_given(augment):
    frames = frames_of()
    torch.manual_seed(5)
    expected_next = torch.rand(3)
    torch.manual_seed(5)
    found = augment(frames, np.random.default_rng(1))
    assert torch.equal(torch.rand(3), expected_next)  # the global generator is as it was
    assert found.dtype == torch.uint8 and found.shape == frames.shape
    assert all(torch.equal(frame, found[0]) for frame in found) and not torch.equal(found, frames)
    assert torch.equal(augment(frames, np.random.default_rng(1)), found)
    assert not torch.equal(augment(frames, np.random.default_rng(2)), found)


def test_augmentations_equal_torchvisions():
    frames = frames_of()
    for seed in range(20):
        torch.manual_seed(int(np.random.default_rng(seed).integers(2**63)))
        expected = v2.RandAugment(3, 20)(frames)
        found = frames
        for operation in draw_randaug(3, 20, frames.shape[-1], np.random.default_rng(seed)):
            found = apply_operation(found, operation)
        assert torch.equal(found, expected)
        torch.manual_seed(int(np.random.default_rng(seed).integers(2**63)))
        assert torch.equal(jittered(frames, np.random.default_rng(seed)), v2.ColorJitter(0.4, 0.4, 0.2, 0.1)(frames))


def test_an_erased_rectangle_has_the_configured_area():
    frames = frames_of(size=100)
    for seed in range(20):
        changed = (erased(frames, np.random.default_rng(seed), area_range=[0.1, 0.2]) != frames)[0].any(0)
        rows, columns = changed.any(1), changed.any(0)
        assert 0.085 < rows.sum() * columns.sum() / 100**2 < 0.21


def test_augmentations_that_are_off_draw_no_random_numbers():
    frames, rng, other = frames_of()[None], np.random.default_rng(3), np.random.default_rng(3)
    plain = TrainTransform(Resize(24), 16)(frames, 0, rng)[0]
    off = {"color_jitter": ColorJitterConfig(prob=0.0), "erasing": ErasingConfig(prob=0.0)}
    assert torch.equal(TrainTransform(Resize(24), 16, **off)(frames, 0, other)[0], plain)
    assert rng.random() == other.random()


def keys_of(num_samples, batch_size, world_size, draws, epoch=1):
    """Batches of each process, as lists of keys."""
    found = []
    for rank in range(world_size):
        batches = TrainBatches(num_samples, batch_size, world_size, rank, seed=9, draws=draws)
        batches.start(epoch)
        found.append(list(batches))
    return found


def pairs_of(processes) -> set[tuple[SampleKey, ...]]:
    """Neighbours at places 2k and 2k+1 of each process's batches."""
    real = [[key for key in batch if key.real] for batches in processes for batch in batches]
    return {tuple(batch[place : place + 2]) for batch in real for place in range(0, len(batch), 2)}


@pytest.mark.parametrize("num_samples", [15, 16, 22, 3])
@pytest.mark.parametrize("repeats", [1, 3])
def test_pairs_are_the_same_for_any_number_of_processes(num_samples, repeats):
    draws = Draws(repeats, are_paired=True)
    one = keys_of(num_samples, 12, 1, draws)
    for world_size, batch_size in ((2, 6), (3, 4), (6, 2)):
        assert pairs_of(keys_of(num_samples, batch_size, world_size, draws)) == pairs_of(one)
    assert sum(len(pair) for pair in pairs_of(one)) == num_samples
    assert all(len({key.index for key in pair}) == len(pair) for pair in pairs_of(one))


@pytest.mark.parametrize("num_samples", [1, 2, 7, 12])
def test_repeated_samples_occur_as_configured_in_an_epoch_of_the_same_length(num_samples):
    ((batches),) = keys_of(num_samples, 4, 1, Draws(repeats=3))
    keys = [key for batch in batches for key in batch]
    assert len(keys) == len(set(keys)) == num_samples
    distinct = epoch_permutation(num_samples, 9, 1)[: 2 * -(-num_samples // 6)]
    assert {key.index for key in keys} <= set(distinct.tolist())
    if num_samples == 12:
        assert sorted((key.index, key.repeat) for key in keys) == sorted((i, r) for i in distinct for r in range(3))


def test_each_repetition_has_its_own_random_stream():
    first, second = SampleKey(2, 5), SampleKey(2, 5, repeat=1)
    assert first.stream(8).random() == np.random.default_rng([8, 2, 5]).random()
    numbers = {key.stream(8, purpose).random() for key in (first, second) for purpose in (0, 1)}
    assert len(numbers) == 4
