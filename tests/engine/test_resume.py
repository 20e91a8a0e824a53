"""The parts of a checkpoint besides weights: numbers of NumPy and PyTorch are read, anything else is one line."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.optim import create_optimizer_v2

from engine.resume import SavedProgress, _restore_optimizer, read_progress
from utils.errors import UserError

PATH = Path("other.pt")
PROGRESS = {"consumed_clips": 2, "step": 8, "best_top1": 33.3, "skipped_clips": 0}
AS_READ = SavedProgress(**PROGRESS)


@pytest.mark.parametrize("number", [3, torch.tensor(3), np.int64(3), np.int32(3)])
def test_numbers_of_numpy_and_pytorch_are_read(number):
    saved = read_progress(PATH, {"epoch": number, "progress": PROGRESS | {"step": number}, "averaged_epochs": number})
    assert (saved.epoch, saved.averaged_epochs) == (3, 3)
    assert saved.progress == AS_READ.model_copy(update={"step": 3})


@pytest.mark.parametrize("best", [50.0, 50, torch.tensor(50.0), np.float32(50)])
def test_a_best_score_of_any_kind_is_read(best):
    saved = read_progress(PATH, {"epoch": 0, "progress": PROGRESS | {"best_top1": best}})
    assert saved.progress == AS_READ.model_copy(update={"best_top1": 50.0})


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        ({}, "contains no epoch to resume from"),
        ({"epoch": None}, "contains no epoch to resume from"),
        ({"epoch": torch.tensor([3])}, "epoch: Input should be a valid integer, not tensor([3])"),
        ({"epoch": 0.5}, "epoch: Input should be a valid integer, not 0.5"),
        ({"epoch": True}, "epoch: Input should be a valid integer, not True"),
        ({"epoch": 10**30}, "epoch: Input should be less than 2147483648"),
        ({"progress": None}, "its progress is a NoneType, not a dictionary"),
        ({"progress": {}}, "progress.consumed_clips: is missing"),
        ({"progress": PROGRESS | {"step": 10**30}}, "progress.step: Input should be less than"),
        ({"progress": PROGRESS | {"step": np.float64(8)}}, "progress.step: Input should be a valid integer, not 8.0"),
        ({"progress": PROGRESS | {"best_top1": math.nan}}, "progress.best_top1: Input should be a finite number"),
        ({"progress": PROGRESS | {"best_watched": torch.tensor(math.inf)}}, "progress.best_watched: Input should be a"),
        ({"averaged_epochs": None}, "averaged_epochs: Input should be a valid integer"),
        ({"scaler_state_dict": None}, "scaler_state_dict: Input should be a valid dictionary"),
    ],
)
def test_other_values_are_one_line(state, fault):
    with pytest.raises(UserError) as caught:
        read_progress(PATH, ({"epoch": 0} | state) if state else {})
    assert str(caught.value).startswith(f"other.pt: {fault}") and "\n" not in str(caught.value)
    assert str(caught.value).endswith("use it as `pretrain` to load only its weights")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda states: states[0].update(exp_avg=np.int64(0)), "exp_avg of weight is a int64, not a tensor"),
        (lambda states: states[0].update(exp_avg=None), "exp_avg of weight is a NoneType, not a tensor"),
        (lambda states: states[0].update(exp_avg=torch.zeros(3)), "weight was 3 and is 2 x 4"),
        (lambda states: states[0].pop("exp_avg_sq"), "exp_avg_sq of weight is missing"),
        (lambda states: states.update({0: None}), "object of type 'NoneType' has no len()"),
    ],
)
def test_an_optimiser_with_other_averages_is_one_line(change, fault):
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    state = {"optimizer_state_dict": optimizer.state_dict()}
    change(state["optimizer_state_dict"]["state"])
    with pytest.raises(UserError) as caught:
        _restore_optimizer(PATH, state, torch.optim.AdamW(model.parameters()), model)
    assert f"its optimiser does not fit this config ({fault}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["muon", "novograd"])
def test_averages_that_differ_between_parameters_are_loaded(name):
    model = torch.nn.Linear(4, 4)
    optimizers = [create_optimizer_v2(model, name, lr=0.1) for _ in range(2)]
    model(torch.ones(1, 4)).sum().backward()
    optimizers[0].step()
    _restore_optimizer(PATH, {"optimizer_state_dict": optimizers[0].state_dict()}, optimizers[1], model)
    assert optimizers[1].state_dict()["state"].keys() == {0, 1}
