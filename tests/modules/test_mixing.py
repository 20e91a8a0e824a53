"""Mixup, cutmix and label smoothing of clips."""

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup

from modules.mixing import Mixing
from tests.modules.tiny import NAMES, make_clips, make_config

NUM_CLASSES = len(NAMES)
SWITCH = {"mixup": 0.8, "cutmix": 1.0}
DRAWS = [(number, 0) for number in (7, 3, 8, 0, 5)]


def mixing_of(tmp_path, mixup, smoothing=0.0):
    mixing = Mixing.of(make_config(tmp_path, data_mixup=mixup, solver_label_smoothing=smoothing))
    assert mixing is not None
    return mixing


def batch_of(size: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return {"frames": make_clips(size, seed=seed), "label": torch.arange(size) % NUM_CLASSES}


@pytest.mark.parametrize("mixup", [{"mixup": 0.8}, {"cutmix": 1.0}, SWITCH])
def test_a_clip_is_mixed_as_timm_mixes_a_pair_of_images(tmp_path, mixup):
    batch = batch_of(2)
    found = mixing_of(tmp_path, mixup, 0.1)(batch, epoch=4, draws=DRAWS[:2])
    reference = Mixup(mixup.get("mixup", 0.0), mixup.get("cutmix", 0.0), label_smoothing=0.1, num_classes=NUM_CLASSES)
    for place, (index, repeat) in enumerate(DRAWS[:2]):
        order = [place, 1 - place]
        for frame in range(4):  # the same draw for each
            images, labels = batch["frames"][order, frame].float(), batch["label"][order]
            np.random.seed(np.random.SeedSequence([1024, 4, index, repeat], spawn_key=(2,)).generate_state(4))
            images, targets = reference(images, labels)
            torch.testing.assert_close(found["frames"][place, frame], images[0].round().to(torch.uint8))
            torch.testing.assert_close(found["label"][place], targets[0])


def test_a_draw_depends_on_the_clip_and_its_partner_alone(tmp_path):
    mixing, batch = mixing_of(tmp_path, SWITCH), batch_of(4)
    before = np.random.get_state()[1].tolist()
    whole = mixing(batch, 2, DRAWS[:4])
    halves = [mixing({k: v[half] for k, v in batch.items()}, 2, DRAWS[half]) for half in (slice(0, 2), slice(2, 4))]
    for name in whole:
        assert torch.equal(torch.cat([half[name] for half in halves]), whole[name])
    assert np.random.get_state()[1].tolist() == before
    assert not torch.equal(mixing(batch, 3, DRAWS[:4])["frames"], whole["frames"])
    again = mixing(batch, 2, [(index, 1) for index, _ in DRAWS[:4]])
    assert not torch.equal(again["frames"], whole["frames"])


def test_the_last_clip_without_partner_stays_as_it_is(tmp_path):
    batch = batch_of(5)
    found = mixing_of(tmp_path, {"mixup": 0.8})(batch, 0, DRAWS)
    assert torch.equal(found["frames"][4], batch["frames"][4])
    torch.testing.assert_close(found["label"][4], torch.eye(NUM_CLASSES)[batch["label"][4]])
    torch.testing.assert_close(found["label"].sum(dim=1), torch.ones(5))


def test_label_smoothing_alone_leaves_the_frames(tmp_path):
    batch = batch_of(3)
    found = mixing_of(tmp_path, {}, smoothing=0.3)(batch, 0, DRAWS[:3])
    assert found["frames"] is batch["frames"]
    torch.testing.assert_close(found["label"], 0.7 * torch.eye(3) + 0.1)


def test_without_mixing_keys_nothing_is_mixed(tmp_path):
    for mixup in ({}, SWITCH | {"prob": 0.0}):
        assert Mixing.of(make_config(tmp_path, data_mixup=mixup)) is None
