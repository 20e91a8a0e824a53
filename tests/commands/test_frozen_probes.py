"""test_frozen.py: neighbours and probes of a frozen tower, from a plain one and from a checkpoint."""

import json
import os
import socket

import pytest
import torch.multiprocessing as mp

from tests.commands.world import call

PROBES = ("--epochs", "1", "--lrs", "1e-3,1e-2", "--weight_decays", "0.1")


def test_all_probes_of_a_plain_tower(world, tmp_path, capsys):
    views = ("--test_clips", "2", "--test_crops", "3")
    heads = "components.attentive.num_heads=4"
    options = ("--config", world.config, "--probes", "knn,linear,attentive", "--out", tmp_path)
    assert call("test_frozen", *options, *PROBES, *views, heads, "components.attentive.depth=2") == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [row["kind"] for row in summary["rows"]] == ["knn", "linear", "linear", "attentive", "attentive"]
    assert {row["lr"] for row in summary["rows"][1:]} == {1e-3, 1e-2}
    assert all(0 <= row["top1"] <= 100 and row["num_videos"] == 9 for row in summary["rows"])
    assert summary["best"]["linear"]["top1"] == max(row["top1"] for row in summary["rows"][1:3])
    assert "attentive" in capsys.readouterr().out


def test_the_tower_of_a_checkpoint_is_probed(world, tmp_path):
    assert call("train", "--config", world.config, f"logging.run_dir={tmp_path / 'run'}", "network.tm=tokent1d") == 0
    options = ("--config", world.config, "--weights", tmp_path / "run" / "last_model.pt", "--out", tmp_path / "out")
    assert call("test_frozen", *options, "--probes", "knn", "--neighbours", "3") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["config"]["network"]["tm"] == "tokent1d" and summary["weights_hash"]


def as_one_of_two(rank: int, port: int, options: tuple) -> None:
    """Run the command with the environment variables of torchrun."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": ""}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    assert call("test_frozen", *options) == 0


def test_two_processes_train_and_score_the_probes_of_one(world, tmp_path):
    options = ("--config", world.config, "--probes", "knn,linear", *PROBES)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(as_one_of_two, (port, (*options, "--out", tmp_path / "two", "data.batch_size=2")), nprocs=2)
    assert call("test_frozen", *options, "--out", tmp_path / "one", "data.batch_size=4") == 0
    two, one = (json.loads((tmp_path / name / "summary.json").read_text())["rows"] for name in ("two", "one"))
    assert [(row.pop("kind"), row) for row in two] == [(row.pop("kind"), pytest.approx(row, rel=1e-4)) for row in one]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--probes", "svm"), "--probes svm: must be a selection of knn, linear, attentive without repetitions"),
        (("--lrs", "fast"), "--lrs fast: must be numbers"),
        (("--epochs", "0"), "--epochs 0: must be at least 1"),
        (("--probes", "attentive", "components.attentive.num_heads=5"), "is not a multiple of 5"),
    ],
)
def test_mistakes_are_one_line_errors(world, tmp_path, capsys, options, part):
    assert call("test_frozen", "--config", world.config, "--out", tmp_path, *options) == 2
    error = capsys.readouterr().err
    assert part in error and len(error.strip().splitlines()) == 1
