"""Augmentations, learning rates and methods of other publications do not depend on processes, batches or resuming."""

import math

import pytest
import torch

from tests.commands.test_train import stop_after
from tests.commands.world import call, command, losses, records
from utils.checkpoint import load_checkpoint
from utils.hashing import content_hash
from utils.stop import EXIT_REQUEUE

AUGMENTED = (
    *("data.mixup.mixup=0.8", "data.mixup.cutmix=1.0", "solver.label_smoothing=0.1", "data.repeats=2"),
    *("data.color_jitter.prob=0.8", "data.erasing.prob=0.5", "data.sampling=balanced"),
)
RATES = (
    *("solver.layer_decay=0.7", "solver.decay_1d=false", "solver.betas=[0.9,0.98]", "solver.min_lr=1e-5"),
    *("solver.text_ratio=0.5", "network.fix_text=false", "solver.clip_grad_norm=1.0"),
)
METHODS = ("solver.interpolated_loss=0.5", "solver.distill=2.0")
ALL = (*AUGMENTED, *RATES, *METHODS)


def train(world, run_dir, *overrides):
    return call("train", "--config", world.config, f"logging.run_dir={run_dir}", *overrides)


def test_two_processes_and_accumulated_batches_equal_one_batch(world, tmp_path):
    assert train(world, tmp_path / "one", *ALL, "data.batch_size=4", "data.workers=2") == 0
    assert train(world, tmp_path / "accumulated", *ALL, "solver.grad_accumulation_steps=2") == 0
    result = command(
        *("sh", "scripts/run_train.sh", world.config, *ALL, f"logging.run_dir={tmp_path / 'two'}"),
        NPROC="2",
    )
    assert result.returncode == 0, result.stderr
    assert len(losses(tmp_path / "one")) == 4
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses(tmp_path / "accumulated"), losses(tmp_path / "one"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "overrides",
    [
        (*ALL, "solver.ema=0.9"),
        (*AUGMENTED, "solver.average_epochs=true", "solver.optim=lion"),
        (*METHODS, "solver.average_epochs=true", "solver.optim=muon", "network.drop_out=0.1"),
        ("solver.optim=adafactor", "solver.patience=3"),
    ],
    ids=["all", "epoch mean, lion", "methods, muon", "adafactor"],
)
@pytest.mark.parametrize("step", [3, 11])
def test_an_interrupted_run_equals_an_uninterrupted_one(world, tmp_path, monkeypatch, overrides, step):
    overrides = (*overrides, "solver.epochs=2", "resume=auto")
    with monkeypatch.context() as patch:
        stop_after(patch, step)
        assert train(world, tmp_path / "resumed", *overrides) == EXIT_REQUEUE
    assert train(world, tmp_path / "resumed", *overrides) == 0
    assert train(world, tmp_path / "uninterrupted", *overrides) == 0
    uninterrupted, resumed = (
        load_checkpoint(tmp_path / name / "last_model.pt") for name in ("uninterrupted", "resumed")
    )
    assert losses(tmp_path / "resumed") == losses(tmp_path / "uninterrupted")
    assert uninterrupted.keys() == resumed.keys()
    for part in set(uninterrupted) - {"config"}:
        assert content_hash(resumed[part]) == content_hash(uninterrupted[part]), part


def test_a_trained_model_is_tested_without_its_training_techniques(world, tmp_path):
    assert train(world, tmp_path, *METHODS, "solver.precision=bf16") == 0
    assert all(map(math.isfinite, losses(tmp_path)))
    weights = tmp_path / "last_model.pt"
    state = load_checkpoint(weights)
    assert {name.split(".")[0] for name in state["model_state_dict"]} == {"visual", "fusion_model", "logit_scale"}
    assert set(state["training_state_dict"]) == {f"distillation.frames.{i}.weight" for i in (0, 2)}
    assert call("test", "--config", world.config, "--weights", weights, "--out", tmp_path / "test") == 0
    again = (f"pretrain={weights}", *METHODS)
    assert train(world, tmp_path / "again", *again) == 0


def test_the_mean_over_epochs_is_saved(world, tmp_path):
    arguments = ("solver.average_epochs=true", "solver.epochs=2", "solver.keep_last=3")
    assert train(world, tmp_path, *arguments) == 0
    first, second = (load_checkpoint(tmp_path / name) for name in ("last_model.1.pt", "last_model.pt"))
    for name, value in second["trained_weights"].items():
        mean = (first["trained_weights"][name] + value) / 2
        torch.testing.assert_close(second["model_state_dict"][name], mean)
    assert torch.equal(first["model_state_dict"]["visual.proj"], first["trained_weights"]["visual.proj"])


def test_a_run_whose_score_stops_improving_ends_early(world, tmp_path, capsys):
    # With this learning rate no weight changes, so the first validation is the best.
    arguments = ("solver.epochs=9", "solver.lr=1e-12", "solver.patience=2", "solver.patience_score=mean_class")
    assert train(world, tmp_path, *arguments) == 0
    assert [r["epoch"] for r in records(tmp_path) if r["kind"] == "val"] == [1, 2, 3]
    assert "stopped early after epoch 3: mean_class has not exceeded" in capsys.readouterr().out
    assert train(world, tmp_path, *arguments, "resume=auto") == 0  # already finished
    assert len([r for r in records(tmp_path) if r["kind"] == "val"]) == 3


def test_check_estimates_the_cost_of_the_methods(world, tmp_path, capsys):
    assert train(world, tmp_path, *METHODS, "--check") == 0
    assert "interpolated_loss and distill 0.00" in capsys.readouterr().out


def test_class_weights_of_the_list_and_of_a_file(world, tmp_path, capsys):
    """Weights of a list without two clips of class 0, and of a file with a class of weight 0, which is not learned."""
    lines = (world.root / "train_frames.txt").read_text().splitlines()
    (tmp_path / "train.txt").write_text("\n".join(lines[2:]))
    (tmp_path / "w.csv").write_text("id,weight\n0,0\n1,0\n2,1\n")
    (tmp_path / "classes.txt").write_text("\n".join(lines[:10]))
    found = {}
    for name, words in {
        "none": (),
        "balanced": ("solver.class_weights=balanced",),
        "file": (f"solver.class_weights={tmp_path / 'w.csv'}", f"data.train_list={tmp_path / 'classes.txt'}"),
    }.items():
        words = (f"data.train_list={tmp_path / 'train.txt'}", "data.batch_size=20", *words)
        assert train(world, tmp_path / name, *words) == 0
        (found[name],) = losses(tmp_path / name)
    assert found["balanced"] != pytest.approx(found["none"], rel=1e-4) and found["file"] == 0
    words = ("solver.class_weights=balanced", "solver.loss_type=NCE", "network.fix_text=false")
    assert train(world, tmp_path / "nce", *words) == 2
    assert "solver.class_weights: not supported by loss_type NCE" in capsys.readouterr().err
