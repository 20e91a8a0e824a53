"""The commands that users type: launchers, one process and several."""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from modules.embed import load_table
from modules.sharding import IS_SUPPORTED
from tests.commands.world import REPO, assert_same_predictions, command, losses, records
from utils.cli import EXIT_CLOSED_OUTPUT


def test_help_answers_at_once():
    for name in ("train", "test"):
        started = time.perf_counter()
        result = command(sys.executable, f"{name}.py", "--help")
        assert result.returncode == 0 and "--config" in result.stdout
        assert time.perf_counter() - started < 2


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    """The same training in one and in two processes, by the launcher, each tested in one, two and three processes."""
    root = tmp_path_factory.mktemp("launched")
    for num_processes in (1, 2):
        result = command(
            "sh", "scripts/run_train.sh", world.config, f"logging.run_dir={root / str(num_processes)}",
            f"data.batch_size={4 // num_processes}", "solver.epochs=2", "data.workers=1", NPROC=str(num_processes),
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    for num_processes in (1, 2, 3):
        result = command(
            "sh", "scripts/run_test.sh", world.config, root / "1" / "last_model.pt", "--test_crops", "3", "--out",
            root / f"test{num_processes}", NPROC=str(num_processes),
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    return root


def test_two_processes_train_like_one(runs):
    # 15 clips in batches of 4: the last batch has three, divided into two and one.
    assert len(losses(runs / "1")) == 8
    torch.testing.assert_close(losses(runs / "2"), losses(runs / "1"), rtol=1e-4, atol=1e-5)


def test_accumulation_in_two_processes_trains_like_one(world, runs, tmp_path):
    result = command(
        "sh", "scripts/run_train.sh", world.config, f"logging.run_dir={tmp_path}", "data.batch_size=1",
        "solver.grad_accumulation_steps=2", "solver.epochs=2", "solver.ema=0.9", NPROC="2",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    torch.testing.assert_close(losses(tmp_path), losses(runs / "1"), rtol=1e-4, atol=1e-5)


def test_any_number_of_processes_gives_identical_scores(runs):
    one = load_table(runs / "test1" / "embeddings.npz")[0]
    summary = json.loads((runs / "test1" / "summary.json").read_text())
    for num_processes in (2, 3):
        other = load_table(runs / f"test{num_processes}" / "embeddings.npz")[0]
        assert other.paths == one.paths
        np.testing.assert_allclose(other.embeddings, one.embeddings, rtol=1e-4, atol=1e-5)
        found = json.loads((runs / f"test{num_processes}" / "summary.json").read_text())
        assert {k: found[k] for k in ("top1", "top5", "mean_class", "num_videos")} == {
            k: summary[k] for k in ("top1", "top5", "mean_class", "num_videos")
        }
        lines = [(runs / f"test{n}" / "predictions.csv").read_text().splitlines() for n in (num_processes, 1)]
        assert_same_predictions(*lines)


@pytest.mark.skipif(not IS_SUPPORTED, reason="sharded training needs PyTorch 2.8")
def test_a_run_of_one_process_resumes_in_two_sharded_ones(world, runs, tmp_path):
    """Killed after step 3 of 8, and resumed by two processes, which share the rest of the epoch."""
    first = command(
        "sh", "scripts/run_train.sh", world.config, f"logging.run_dir={tmp_path}", "data.batch_size=4",
        "solver.epochs=2", "solver.save_every=3", "solver.keep_last=4",
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    # Saves came after steps 3, 4, 6, 8; the oldest kept is that of step 3.
    shutil.copy(tmp_path / "last_model.3.pt", tmp_path / "step3.pt")
    second = command(
        "sh", "scripts/run_train.sh", world.config, f"logging.run_dir={tmp_path}", "data.batch_size=2",
        "solver.epochs=2", f"resume={tmp_path / 'step3.pt'}", "solver.shard=full", NPROC="2",
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    assert "step 3" in second.stdout
    torch.testing.assert_close(losses(tmp_path), losses(runs / "1"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("run_train.sh",), "no config file given; usage: sh scripts/run_train.sh CONFIG"),
        (("run_train.sh", "nowhere.yaml"), "nowhere.yaml: no such config file"),
        (("run_test.sh", "configs/shapes/transf.yaml"), "no weights file given"),
        (("run_test.sh", "configs/shapes/transf.yaml", "nowhere.pt"), "nowhere.pt: no such weights file"),
        (("run_train_multinodes.sh", "configs/shapes/transf.yaml"), "NODE_RANK must be"),
        (("run_train_multinodes.sh", "configs/shapes/transf.yaml", "1"), "MASTER_ADDR is not set"),
    ],
)
def test_launchers_stop_with_a_clear_message(words, part):
    result = command("sh", f"scripts/{words[0]}", *words[1:], MASTER_ADDR="")
    assert result.returncode == 2 and part in result.stderr and result.stderr.count("\n") == 1


def test_the_launcher_runs_on_several_machines(world, tmp_path):
    """Two nodes of one process each, both on this machine."""

    def start(node_rank: int):
        return command(
            "sh", "scripts/run_train_multinodes.sh", world.config, node_rank, f"logging.run_dir={tmp_path}",
            MASTER_ADDR="127.0.0.1", MASTER_PORT="29617", NNODES="2", NPROC="1",
        )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        nodes = list(pool.map(start, (0, 1)))
    assert [node.returncode for node in nodes] == [0, 0], nodes[0].stderr + nodes[1].stderr
    assert len(losses(tmp_path)) == 4 and "2 x cpu" in nodes[0].stdout


def test_few_shot_over_seeds(world, tmp_path):
    result = command(
        "sh", "scripts/run_fewshot.sh", world.config, "0 1", "data.shot=2", FOLDER=str(tmp_path / "few")
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    picks = [(tmp_path / "few" / f"seed{s}" / "few_shot.txt").read_text() for s in (0, 1)]
    known = (world.root / "train_frames.txt").read_text().splitlines()
    for text in picks:
        lines = text.splitlines()
        assert set(lines) <= set(known) and sorted(line.split()[2] for line in lines) == list("001122")
    assert picks[0] != picks[1]
    # An epoch is as long as that of the full list.
    assert [len(losses(tmp_path / "few" / f"seed{s}")) for s in (0, 1)] == [8, 8]
    scores = [r["top1"] for s in (0, 1) for r in records(tmp_path / "few" / f"seed{s}") if r["kind"] == "val"]
    assert f"{np.mean(scores):.2f} +- {np.std(scores):.2f}" in result.stdout


def start(*words: object) -> subprocess.Popen:
    return subprocess.Popen(
        [str(w) for w in words],
        cwd=REPO,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen, part: str) -> None:
    """Read the output of a command up to a line with `part` in it, and close it, as `head` does."""
    for line in process.stdout:
        if part in line:
            break
    process.stdout.close()


def test_training_into_a_closed_output_ends(world, tmp_path):
    words = ("--config", world.config, f"logging.run_dir={tmp_path / 'run'}", "solver.epochs=2000")
    with start(sys.executable, "train.py", *words) as process:
        read_until(process, "step 1/8")
        assert (process.stderr.read(), process.wait(120)) == ("", EXIT_CLOSED_OUTPUT)


def test_testing_into_a_closed_output_ends(world, runs, tmp_path):
    words = ("--config", world.config, "--weights", runs / "1" / "last_model.pt", "--out", tmp_path / "out")
    with start(sys.executable, "test.py", *words) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait(120)) == ("", EXIT_CLOSED_OUTPUT)
