"""One run at a time in a run folder."""

import errno
import fcntl
import logging
import os
import signal
import socket
import time

import pytest

from engine.folder_lock import LOCK, folder_lock
from tests.commands.world import call, records
from tests.faults.live_runs import live_run
from utils.errors import UserError


def test_a_second_process_is_refused_and_the_first_is_named(tmp_path):
    with folder_lock(tmp_path / "run", "logging.run_dir"):
        child = os.fork()
        if child == 0:  # POSIX locks are between processes
            try:
                with folder_lock(tmp_path / "run", "logging.run_dir"):
                    os._exit(1)
            except UserError as error:
                os._exit(0 if f"in use by process {os.getppid()} on {socket.gethostname()};" in str(error) else 2)
        assert os.waitpid(child, 0)[1] == 0
        (tmp_path / "run" / "log.txt").write_text("kept")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.txt"]


def test_an_empty_folder_is_removed(tmp_path):
    with pytest.raises(UserError, match="no such clip"), folder_lock(tmp_path / "a" / "b", "logging.run_dir"):
        raise UserError("no such clip")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported_with_the_path_and_nothing_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError) as caught, folder_lock(tmp_path / "a" / "b", "--out"):
        pass
    assert caught.value.filename == str(tmp_path / "a" / "b" / LOCK) and not list(tmp_path.iterdir())


def test_the_lock_is_released_when_its_process_ends(tmp_path):
    child = os.fork()
    if child == 0:
        with folder_lock(tmp_path, "logging.run_dir"):
            if os.fork() == 0:  # a loader process: it has no part in the lock
                time.sleep(60)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / LOCK).exists()
    with folder_lock(tmp_path, "logging.run_dir"):
        pass
    assert not (tmp_path / LOCK).exists()


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    caplog.set_level(logging.WARNING)
    with folder_lock(tmp_path, "logging.run_dir"):
        pass
    assert "cannot be locked (No locks available): do not start a second run in this folder" in caplog.text


def test_two_runs_in_one_folder(world, tmp_path, capsys):
    run_dir = tmp_path / "run"
    with live_run(world.config, run_dir, "solver.epochs=2000", NPROC="1") as run:
        run.wait_for_steps(2)
        before = (run_dir / "config.yaml").read_text()
        assert call("train", "--config", world.config, f"logging.run_dir={run_dir}", "resume=auto", "seed=7") == 2
        assert f"{run_dir} is in use by process {run.process.pid} on " in capsys.readouterr().err
        os.kill(run.process.pid, signal.SIGKILL)
        run.end()
    assert (run_dir / "config.yaml").read_text() == before and records(run_dir)
    assert call("train", "--config", world.config, f"logging.run_dir={run_dir}", "resume=auto", "solver.epochs=1") == 0
