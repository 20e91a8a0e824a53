"""Options of a run: moving average of the weights, torch.compile, patch dropout, output and logging."""

import importlib.util
import json
import os
import re
import shutil
import signal
import sys

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from modules.embed import embed_videos
from tests.commands.world import call, command, losses, records
from utils.checkpoint import load_checkpoint
from utils.hashing import content_hash
from utils.schema import Config
from utils.stop import EXIT_REQUEUE


def train(world, run_dir, *overrides):
    return call("train", "--config", world.config, f"logging.run_dir={run_dir}", *overrides)


@pytest.fixture(scope="module")
def plain_run(world, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain")
    assert train(world, path) == 0
    return path


def stop_in_validation(monkeypatch):
    """Request a stop at the beginning of the first validation."""
    asked = []

    def embed(*arguments, **named):
        if not asked:
            asked.append(os.kill(os.getpid(), signal.SIGTERM))
        return embed_videos(*arguments, **named)

    monkeypatch.setattr("modules.validation.embed_videos", embed)


def test_the_average_of_the_weights_is_saved(world, plain_run, tmp_path):
    assert train(world, tmp_path, "solver.ema=0.5") == 0
    assert losses(tmp_path) == losses(plain_run)  # the training is unchanged
    state, plain = load_checkpoint(tmp_path / "last_model.pt"), load_checkpoint(plain_run / "last_model.pt")
    trained = state["trained_weights"]
    assert content_hash(trained) == content_hash({n: plain["model_state_dict"][n] for n in trained})
    name = "fusion_model.transformer.resblocks.0.mlp.c_fc.weight"
    assert not torch.equal(state["model_state_dict"][name], trained[name])
    # By hand, from the checkpoints after each step: decays of 0.1, 2/11, 0.25 ..., at most 0.5.
    assert train(world, tmp_path / "steps", "solver.save_every=1", "solver.keep_last=20") == 0
    paths = [tmp_path / "steps" / f"last_model.{age}.pt" for age in range(8, 0, -1)]
    after = [load_checkpoint(path)["model_state_dict"][name] for path in paths]
    assert train(world, tmp_path / "start", "solver.lr=1e-30") == 0
    average = load_checkpoint(tmp_path / "start" / "last_model.pt")["model_state_dict"][name]
    for step, weights in enumerate(after):
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weights
    torch.testing.assert_close(state["model_state_dict"][name], average)


def test_the_average_is_validated_and_tested(world, tmp_path):
    assert train(world, tmp_path, "solver.ema=0.9", "solver.epochs=2") == 0
    last = [r["top1"] for r in records(tmp_path) if r["kind"] == "val"][-1]
    assert call("test", "--config", world.config, "--weights", tmp_path / "last_model.pt", "--out", tmp_path / "t") == 0
    assert json.loads((tmp_path / "t" / "summary.json").read_text())["top1"] == pytest.approx(last)


@pytest.mark.parametrize("epochs", [1, 2])
def test_an_interrupted_average_is_resumed(world, tmp_path, monkeypatch, epochs):
    assert train(world, tmp_path / "whole", "solver.ema=0.9", f"solver.epochs={epochs}") == 0
    stop_in_validation(monkeypatch)
    arguments = (tmp_path / "cut", "solver.ema=0.9", f"solver.epochs={epochs}", "resume=auto")
    assert train(world, *arguments) == EXIT_REQUEUE
    assert [r["kind"] for r in records(tmp_path / "cut")].count("val") == 0
    assert train(world, *arguments) == 0
    assert [r["kind"] for r in records(tmp_path / "cut")].count("val") == epochs
    uninterrupted, resumed = (load_checkpoint(tmp_path / name / "last_model.pt") for name in ("whole", "cut"))
    for part in ("model_state_dict", "trained_weights", "optimizer_state_dict", "progress"):
        assert content_hash(uninterrupted[part]) == content_hash(resumed[part]), part


def test_patch_dropout_trains_on_fewer_patches_and_tests_on_all(world, plain_run, tmp_path):
    assert train(world, tmp_path, "network.patch_dropout=0.5") == 0
    assert losses(tmp_path) != losses(plain_run)
    test = ("--config", world.config, "--weights", tmp_path / "last_model.pt", "--out")
    assert call("test", *test, tmp_path / "with", "network.patch_dropout=0.5") == 0
    assert call("test", *test, tmp_path / "without") == 0
    assert (tmp_path / "with/predictions.csv").read_text() == (tmp_path / "without/predictions.csv").read_text()


def test_a_compiled_model_trains_the_same(world, plain_run, tmp_path, monkeypatch, capsys):
    torch.compiler.reset()
    # Traced and differentiated as by torch.compile, but without compiling C++, which takes a minute.
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: compile_module(module, backend="aot_eager"))
    assert train(world, tmp_path, "solver.compile=true") == 0
    assert "the first step took" in capsys.readouterr().out
    torch.testing.assert_close(losses(tmp_path), losses(plain_run), rtol=1e-4, atol=1e-5)
    compiled, eager = (load_checkpoint(p / "last_model.pt")["model_state_dict"] for p in (tmp_path, plain_run))
    assert compiled.keys() == eager.keys()


def test_compile_without_a_compiler_is_a_one_line_error(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert train(world, tmp_path, "solver.compile=true") == 2
    assert "install g++ or set solver.compile=false" in capsys.readouterr().err


def test_quiet_shows_the_result_and_the_file_has_all(world, tmp_path, capsys):
    assert train(world, tmp_path, "--quiet") == 0
    shown = capsys.readouterr().out
    assert "waiting for data" in shown and "best" in shown and "step 1/8" not in shown
    log = (tmp_path / "log.txt").read_text()
    assert "step 1/8" in log and "run in 00:00:0" in log and "waiting for data" in log


def test_tensorboard_and_the_time_left(world, tmp_path, capsys):
    assert Config().logging.tensorboard  # the world's config disables it
    assert train(world, tmp_path, "logging.tensorboard=true") == 0
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("train/loss")] == list(range(1, 9)) and events.Scalars("val/top1")
    assert re.search(r"epoch ends in 00:00:\d\d, run in 00:00:\d\d", capsys.readouterr().out)


def test_quiet_tests_show_the_scores(world, plain_run, tmp_path, capsys):
    arguments = ("--config", world.config, "--weights", plain_run / "last_model.pt", "--quiet", "--out", tmp_path)
    capsys.readouterr()
    assert call("test", *arguments) == 0
    assert capsys.readouterr().out.startswith("top-1 ")
    assert call("test_zeroshot", *arguments) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "are training classes" in shown[0] and shown[1].startswith("test ") and len(shown) == 4


def test_the_summary_has_a_row_for_each_validation(world, tmp_path, capsys):
    assert train(world, tmp_path, "solver.epochs=2") == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(i for i, line in enumerate(lines) if re.match(r"epoch +loss", line))
    val = [r for r in records(tmp_path) if r["kind"] == "val"]
    assert [line.split()[0] for line in lines[head + 2 : head + 4]] == ["1", "2"]
    for line, record in zip(lines[head + 2 : head + 4], val):
        assert f"{record['top1']:.2f}" in line
    assert sum("best" in line for line in lines[head + 2 : head + 4]) == 1


def test_plain_shows_no_bar_on_a_terminal(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert train(world, tmp_path / "bar") == 0
    assert "epoch 1/1: " in capsys.readouterr().err
    for name, option in (("plain", "--plain"), ("quiet", "--quiet")):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        assert train(world, tmp_path / name, option) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_weights_and_biases_offline(world, tmp_path):
    run = command(
        "sh", "scripts/run_train.sh", world.config, f"logging.run_dir={tmp_path}", "logging.wandb_project=shapes",
        WANDB_MODE="offline",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_weights_and_biases_must_be_installed(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("engine.rules.find_spec", lambda name: None)
    assert train(world, tmp_path, "logging.wandb_project=shapes") == 2
    assert (
        "logging.wandb_project: Weights & Biases is not installed; run 'pip install wandb'" in capsys.readouterr().err
    )
