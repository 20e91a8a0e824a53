"""Killing the processes of a launch."""

import signal
import subprocess

from scripts import launch


def test_a_process_that_has_ended_does_not_keep_the_others_alive(monkeypatch):
    ended = subprocess.Popen(["true"], start_new_session=True)
    ended.wait()
    running = subprocess.Popen(["sleep", "60"], start_new_session=True)
    monkeypatch.setattr(launch, "processes", lambda: [ended.pid, running.pid])
    try:
        launch.kill_processes()
        assert running.wait(timeout=10) == -signal.SIGKILL
    finally:
        running.kill()
