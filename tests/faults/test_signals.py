"""Signals and lost processes, of a run alone and of several processes by the launcher.

`SIGNAL_CASES=all sh scripts/run_tests.sh tests/faults/test_signals.py` sends each signal to each target, with and
without loader processes, for one process and two; without it, one of seven of these is tried.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands.world import REPO, call, command, losses
from tests.faults.live_runs import ON_CPU, LiveRun, live_run
from utils.checkpoint import load_checkpoint
from utils.stop import ASKED, EXIT_REQUEUE

FOREVER = "solver.epochs=2000"
pytestmark = pytest.mark.timeout(900)  # on a busy machine PyTorch alone takes a minute to start


ALL_CASES = os.environ.get("SIGNAL_CASES") == "all"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# To the command; to its process group; to it, its processes and their loader processes one by one, as schedulers do
# (scancel, systemd); to the process of rank 0 alone.
TARGETS = ("command", "group", "everyone", "rank 0")


def signal_cases() -> list[tuple[str, signal.Signals, int, int]]:
    """(target, signal, loader processes, processes). A process alone is the command itself."""
    if not ALL_CASES:
        return [
            ("command", signal.SIGINT, 0, 1),
            ("command", signal.SIGUSR1, 0, 2),
            ("rank 0", signal.SIGTERM, 0, 2),
            ("group", signal.SIGINT, 2, 2),
            ("group", signal.SIGTERM, 2, 1),
            ("everyone", signal.SIGUSR1, 2, 1),
        ]
    cases = itertools.product(TARGETS, SIGNALS, (0, 2), (1, 2))
    return [case for case in cases if case[0] != "rank 0" or case[-1] > 1]


def send(run: LiveRun, target: str, number: int) -> None:
    if target == "group":
        os.killpg(run.process.pid, number)
    elif target == "everyone":
        for pid in run.everyone():
            os.kill(pid, number)
    else:
        os.kill(run.process.pid if target == "command" else run.rank(0), number)


@pytest.mark.parametrize(("target", "number", "num_workers", "num_processes"), signal_cases(), ids=str)
def test_a_signal_saves_and_exits_with_the_requeue_code(world, tmp_path, target, number, num_workers, num_processes):
    run_dir, workers = tmp_path / "run", f"data.workers={num_workers}"
    with live_run(world.config, run_dir, FOREVER, workers, NPROC=str(num_processes)) as run:
        run.wait_for_steps(3)
        everyone = run.everyone()
        assert len(everyone) >= num_processes * (1 + min(num_workers, 1))  # each has a share of the cores
        send(run, target, number)
        assert run.end() == EXIT_REQUEUE, run.errors()
        # The launcher prints the line where it is asked itself.
        assert run.errors() == ([] if target == "rank 0" else [ASKED])
        assert not any(Path(f"/proc/{pid}").exists() for pid in everyone[:-1])
    saved = load_checkpoint(run_dir / "last_model.pt")
    assert saved["progress"]["step"] == len(losses(run_dir)) >= 3
    assert "stopped by a signal and saved after step" in (run_dir / "log.txt").read_text()
    if target != "command":
        return
    epochs = saved["epoch"] + 2
    arguments = ("--config", world.config, f"logging.run_dir={run_dir}", f"data.batch_size={2 * num_processes}")
    assert call("train", *arguments, "resume=auto", f"solver.epochs={epochs}") == 0
    assert load_checkpoint(run_dir / "last_model.pt")["epoch"] == epochs - 1


TIMEOUT_CASES = [("INT", "1"), ("TERM", "1")]
if ALL_CASES:
    TIMEOUT_CASES = list(itertools.product(("INT", "TERM", "USR1"), ("1", "2")))


@pytest.mark.parametrize(("name", "num_processes"), TIMEOUT_CASES)
def test_a_run_under_timeout_saves(world, tmp_path, name, num_processes):
    """`timeout` sends the signal to the command and then to the process group: the command gets it twice."""
    run_dir = tmp_path / "run"
    words = ["timeout", "-s", name, "25", "sh", "scripts/run_train.sh", world.config, f"logging.run_dir={run_dir}"]
    environment = {"PYTHON": sys.executable, "NPROC": num_processes, **ON_CPU}
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
def test_a_machine_that_waits_for_another_exits_at_once(world, tmp_path, node_rank):
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


def test_an_error_in_one_process_is_reported_in_one_line(world, tmp_path):
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


def test_a_killed_loader_process_is_reported_in_one_line(world, tmp_path):
    with live_run(
        world.config, tmp_path / "run", FOREVER, "data.workers=1", "logging.eval_freq=2000", NPROC="1"
    ) as run:
        run.wait_for_steps(3)
        loader = run.children()[0]
        os.kill(loader, signal.SIGKILL)
        assert run.end(60) == 1
        errors = run.errors()
    assert len(errors) == 1 and errors[0].startswith("error: a loader process was killed by SIGKILL"), errors
