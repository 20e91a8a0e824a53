"""A step with a loss or gradient that is not finite is skipped and its clips are named; too many stop the run."""

import pytest
import torch

from modules.losses import cross_entropy
from modules.losses.cross_entropy import weighted_cross_entropy
from tests.commands.world import call, losses
from tests.faults_of import error_line
from utils.checkpoint import load_checkpoint
from utils.hashing import content_hash


def train(world, run_dir, *overrides):
    return call("train", "--config", world.config, f"logging.run_dir={run_dir}", *overrides)


def spoil(monkeypatch, calls: set[int], how) -> None:
    """Apply `how` to the loss of the given batches, counted from 0."""
    count = iter(range(10**6))

    def loss(*arguments):
        value = weighted_cross_entropy(*arguments)
        return how(value) if next(count) in calls else value

    monkeypatch.setattr(cross_entropy, "weighted_cross_entropy", loss)


class InfiniteGradient(torch.autograd.Function):
    """The identity, with a gradient that is not finite."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("inf")


SPOILT = {"loss": lambda value: value * float("nan"), "gradient": InfiniteGradient.apply}


@pytest.mark.parametrize("optim", ["adamw", "adam", "sgd", "lion"])
@pytest.mark.parametrize("what", list(SPOILT))
def test_a_step_with_a_loss_that_is_not_finite_is_skipped(world, tmp_path, monkeypatch, capsys, what, optim):
    """A run whose last step is not finite has the weights of the step before."""
    overrides = (f"solver.optim={optim}", "solver.save_every=1", "solver.keep_last=3", "solver.max_nonfinite_steps=1")
    spoil(monkeypatch, {7}, SPOILT[what])
    assert train(world, tmp_path, *overrides) == 0
    output = capsys.readouterr().out
    assert "step 8: the " in output and "the update was skipped" in output and "(1 of 1 allowed)" in output
    assert "train_" in output.split("clips in this process's batch:")[1]
    before, after = (load_checkpoint(tmp_path / name) for name in ("last_model.2.pt", "last_model.1.pt"))
    assert [s["progress"]["step"] for s in (before, after)] == [7, 8]
    assert content_hash(before["model_state_dict"]) == content_hash(after["model_state_dict"])
    states = [s["optimizer_state_dict"]["state"] for s in (before, after)]
    assert content_hash(states[0]) == content_hash(states[1])
    assert len(losses(tmp_path)) == 8


@pytest.mark.parametrize(("allowed", "last_step"), [(0, 3), (2, 6)])
def test_the_run_stops_above_the_maximum_number(world, tmp_path, monkeypatch, capsys, allowed, last_step):
    spoil(monkeypatch, {2, 3, 5}, SPOILT["loss"])
    error = error_line(train(world, tmp_path, f"solver.max_nonfinite_steps={allowed}"), capsys)
    assert f"error: step {last_step}: the loss is nan" in error and "train_" in error
    assert not (tmp_path / "last_model.pt").exists()
