"""Signals and lost processes, of a run alone and of several processes by the launcher."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands.world import REPO, call, command, losses
from tests.faults.live_runs import ON_CPU, live_run
from utils.checkpoint import load_checkpoint
from utils.stop import ASKED, EXIT_REQUEUE

FOREVER = "solver.epochs=2000"
pytestmark = pytest.mark.timeout(900)  # on a busy machine PyTorch alone takes a minute to start


@pytest.mark.parametrize(
    ("num_processes", "number"), [(1, signal.SIGINT), (2, signal.SIGUSR1), (2, signal.SIGTERM)], ids=str
)
def test_a_signal_saves_and_leaves_with_the_requeue_code(world, tmp_path, num_processes, number):
    run_dir = tmp_path / "run"
    with live_run(world.config, run_dir, FOREVER, NPROC=str(num_processes)) as run:
        run.wait_for_steps(3)
        workers = run.children()
        os.kill(run.process.pid, number)
        assert run.end() == EXIT_REQUEUE, run.errors()
        assert run.errors() == [ASKED] and not any(Path(f"/proc/{pid}").exists() for pid in workers)
    saved = load_checkpoint(run_dir / "last_model.pt")
    assert saved["progress"]["step"] == len(losses(run_dir)) >= 3
    assert "stopped by a signal: saved after step" in (run_dir / "log.txt").read_text()
    epochs = saved["epoch"] + 2
    arguments = ("--config", world.config, f"logging.run_dir={run_dir}", f"data.batch_size={2 * num_processes}")
    assert call("train", *arguments, "resume=auto", f"solver.epochs={epochs}") == 0
    assert load_checkpoint(run_dir / "last_model.pt")["epoch"] == epochs - 1


@pytest.mark.parametrize(
    ("num_processes", "num_workers", "number"), [(1, 2, signal.SIGTERM), (1, 1, signal.SIGUSR1), (2, 1, signal.SIGTERM)]
)
def test_a_signal_to_every_process_saves(world, tmp_path, num_processes, num_workers, number):
    """As schedulers send it (scancel, systemd): to the command, its processes and their loader processes alike."""
    run_dir = tmp_path / "run"
    workers = f"data.workers={num_workers}"
    with live_run(world.config, run_dir, FOREVER, workers, NPROC=str(num_processes)) as run:
        run.wait_for_steps(3)
        everyone = [*run.descendants(), run.process.pid]
        assert len(everyone) >= num_processes + num_workers * num_processes
        for pid in everyone:
            os.kill(pid, number)
        assert run.end() == EXIT_REQUEUE, run.errors()
        assert run.errors() == [ASKED] and not any(Path(f"/proc/{pid}").exists() for pid in everyone[:-1])
    assert load_checkpoint(run_dir / "last_model.pt")["progress"]["step"] == len(losses(run_dir)) >= 3


@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_a_run_under_timeout_saves(world, tmp_path, name):
    """`timeout` sends the signal to the command and then to the process group: the command gets it twice."""
    run_dir = tmp_path / "run"
    words = ["timeout", "-s", name, "25", "sh", "scripts/run_train.sh", world.config, f"logging.run_dir={run_dir}"]
    environment = {"PYTHON": sys.executable, "NPROC": "1", **ON_CPU}
    result = command(*words, FOREVER, "data.workers=1", **environment)
    assert result.stderr == f"{ASKED}\n"
    assert result.returncode == 124  # timeout's own
    assert load_checkpoint(run_dir / "last_model.pt")["progress"]["step"] == len(losses(run_dir)) > 0


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_signal_before_the_first_step_leaves_nothing(world, tmp_path, num_processes):
    run_dir = tmp_path / "run"
    with live_run(world.config, run_dir, FOREVER, NPROC=str(num_processes)) as run:
        # It is up, and does not train yet: it or its processes import PyTorch.
        run.wait_until(lambda: run.catches(signal.SIGTERM) and len(run.children()) == (num_processes > 1) * 2)
        os.kill(run.process.pid, signal.SIGINT)
        assert run.end() == EXIT_REQUEUE, run.errors()
        assert run.errors() == [ASKED]
    assert not run_dir.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the launcher knows of its processes by /proc")
@pytest.mark.parametrize("node_rank", [0, 1], ids=["nobody has joined", "nobody to join"])
def test_a_machine_that_waits_for_another_leaves_at_once(world, tmp_path, node_rank):
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29637", "NNODES": "2", "NPROC": "1"}
    process = subprocess.Popen(
        ["sh", "scripts/run_train_multinodes.sh", str(world.config), str(node_rank)],
        cwd=REPO,
        env={**os.environ, "PYTHON": sys.executable, **ON_CPU, **environment, "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("launch-*")):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)  # until it waits
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == EXIT_REQUEUE
    lines = [line for line in errors.splitlines() if not line.startswith("[W")]
    assert len(lines) == 1 and lines[0].startswith("stopped by a signal before the processes were started"), errors
    assert not list(tmp_path.glob("launch-*"))


def test_a_mistake_that_one_process_meets_is_one_line(world, tmp_path):
    shutil.copytree(world.root / "frames", tmp_path / "frames")
    for path in (tmp_path / "frames" / "train_1_0").iterdir():
        path.unlink()
    with live_run(world.config, tmp_path / "run", f"data.train_root={tmp_path / 'frames'}", NPROC="2") as run:
        assert run.end() == 2
        errors = run.errors()
    assert len(errors) == 1 and "train_1_0" in errors[0], errors


def test_a_killed_process_ends_the_others_and_is_named(world, tmp_path):
    with live_run(world.config, tmp_path / "run", FOREVER, NPROC="2") as run:
        run.wait_for_steps(3)
        workers, killed = run.children(), run.rank(1)
        started = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        assert run.end() == 1 and time.monotonic() - started < 60
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        errors = run.errors()
    assert len(errors) == 1, errors  # and not that the other process lost its connection
    assert (
        f"error: process 1 (pid {killed}) was killed by SIGKILL; the others were stopped; add resume=auto" in errors[0]
    )


def test_restarts_resume_the_last_checkpoint(world, tmp_path):
    """Without resume=auto and without a named folder: the launcher knows that it is the same run."""
    overrides = ("solver.epochs=3", "solver.save_every=1", "data.batch_size=1")
    assert call("train", "--config", world.config, f"logging.run_dir={tmp_path / 'whole'}", *overrides,
                "data.batch_size=2") == 0  # fmt: skip
    with live_run(world.config, tmp_path / "run", *overrides, NPROC="2", MAX_RESTARTS="1") as run:
        run.wait_for_steps(4)
        os.kill(run.rank(1), signal.SIGKILL)
        assert run.end() == 0, run.errors()
    assert "resumed from" in (tmp_path / "run" / "log.txt").read_text()
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4, abs=1e-5)


def test_a_killed_loader_process_is_one_line(world, tmp_path):
    with live_run(
        world.config, tmp_path / "run", FOREVER, "data.workers=1", "logging.eval_freq=2000", NPROC="1"
    ) as run:
        run.wait_for_steps(3)
        loader = run.children()[0]
        os.kill(loader, signal.SIGKILL)
        assert run.end(60) == 1
        errors = run.errors()
    assert len(errors) == 1 and errors[0].startswith("error: a loader process was killed by SIGKILL"), errors
