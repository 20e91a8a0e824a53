"""Colour jitter, erasing, repeated augmentation and pairs: one draw per clip, the same in all processes."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from datasets import build
from datasets.augmentations import AUGMENTATIONS
from datasets.augmentations.augmentation import Augmentation
from datasets.augmentations.color_jitter import ColorJitter
from datasets.augmentations.erasing import Erasing
from datasets.augmentations.grayscale import Grayscale
from datasets.augmentations.randaug import RandAug
from datasets.samplers import Draws, TrainBatches, epoch_permutation
from datasets.video_dataset import SampleKey
from tests.datasets.helpers import frame_config
from utils.config import load_config
from utils.config_fields import Section, key
from utils.data_sections import ColorJitterConfig
from utils.errors import UserError
from utils.schema import Config


def frames_of(num_frames: int = 3, size: int = 24) -> torch.Tensor:
    """The same picture in each frame."""
    picture = np.random.default_rng(0).integers(0, 256, (3, size, size), dtype=np.uint8)
    return torch.from_numpy(picture).expand(num_frames, -1, -1, -1)


JITTER = ColorJitter(ColorJitterConfig(prob=1.0))


def augmented(augmentation: Augmentation, frames: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    for drawn in augmentation.draw(frames.shape[-1], rng):
        frames = augmentation.apply(frames, drawn)
    return frames


@pytest.mark.parametrize("augmentation", [JITTER, Erasing(1.0, (0.02, 0.33))])
def test_all_frames_share_one_draw_of_the_generator_given(augmentation):
    frames, augment = frames_of(), partial(augmented, augmentation)
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
        assert torch.equal(augmented(RandAug(3, 20), frames, np.random.default_rng(seed)), expected)
        rng = np.random.default_rng(seed)
        rng.random()  # whether it is applied
        torch.manual_seed(int(rng.integers(2**63)))
        expected = v2.ColorJitter(0.4, 0.4, 0.2, 0.1)(frames)
        assert torch.equal(augmented(JITTER, frames, np.random.default_rng(seed)), expected)


def test_an_erased_rectangle_has_the_configured_area():
    frames = frames_of(size=100)
    for seed in range(20):
        changed = (augmented(Erasing(1.0, (0.1, 0.2)), frames, np.random.default_rng(seed)) != frames)[0].any(0)
        rows, columns = changed.any(1), changed.any(0)
        assert 0.085 < rows.sum() * columns.sum() / 100**2 < 0.21


def test_augmentations_that_are_off_draw_no_random_numbers():
    listed = Augmentation.listed()
    on = {name: kind.of(Config()) for name, kind in listed.items()}
    # Published: greyscale draws a number at any probability, so erasing after it does not depend on this.
    assert list(on) == [*listed] and {name: one for name, one in on.items() if one} == {"grayscale": Grayscale(0.2)}
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    assert Grayscale(0.0).draw(16, rng) == [] and other.random() != rng.random() == other.random()


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


@dataclass(frozen=True)
class Reverse(Augmentation):
    """An augmentation as CONTRIBUTING.md says to add one: frames in reverse order."""

    class Settings(Section):
        prob: float = key(0.0, "probability per training clip; 0: off", "", ge=0, le=1)

    prob: float

    @classmethod
    def of(cls, cfg: Config) -> "Reverse | None":
        prob = cls.settings(cfg).prob
        return cls(prob) if prob > 0 else None

    def draw(self, size: int, rng: np.random.Generator) -> list[None]:
        return [None] if rng.random() < self.prob else []

    def apply(self, frames: torch.Tensor, drawn: None) -> torch.Tensor:
        return frames.flip(-4)


def test_a_new_augmentation_is_a_class_and_a_line(tmp_path, monkeypatch):
    common = frame_config(tmp_path, num_videos=4, erasing={"prob": 0.5})
    plain = list(build.build_train_loader(common))
    monkeypatch.setitem(AUGMENTATIONS, "reverse", f"{__name__}.Reverse")
    assert all(
        torch.equal(one["frames"], other["frames"]) for one, other in zip(plain, build.build_train_loader(common))
    )
    settings = load_config(None, ["components.reverse.prob=0.5"], "predict").config.components
    for pixels_on in ("cpu", "device"):
        data = common.data.model_copy(update={"pixels_on": pixels_on})
        found = list(build.build_train_loader(common.model_copy(update={"data": data, "components": settings})))
        pairs = [pair for one, other in zip(found, plain) for pair in zip(one["frames"], other["frames"])]
        reversals = {torch.equal(clip, before.flip(0)) for clip, before in pairs}
        assert reversals == {True, False} and all(torch.equal(a, b) or torch.equal(a, b.flip(0)) for a, b in pairs)
    with pytest.raises(UserError, match="components.reverse.prob: must be"):
        load_config(None, ["components.reverse.prob=2"], "predict")
