"""utils/stop.py: requests to stop, and who of a launch's processes speaks."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.world import REPO
from utils.cli import EXIT_FAILURE, EXIT_USER_ERROR, run_story
from utils.errors import UserError
from utils.stop import (
    ASKED,
    EXIT_CLOSED_OUTPUT,
    EXIT_REQUEUE,
    LAUNCH_FOLDER,
    Stopped,
    StopRequest,
)


@pytest.fixture
def stop():
    request = StopRequest()
    yield request
    request.close()


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGUSR1])
def test_the_second_interrupt_interrupts_whatever_came_before(stop, first):
    os.kill(os.getpid(), first)
    os.kill(os.getpid(), first)
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.is_asked()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_the_first_signal_is_answered_by_one_line(stop, capfd):
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    assert capfd.readouterr().err == f"{ASKED}\n"
    assert stop.exit_code() == EXIT_REQUEUE


@pytest.mark.parametrize("variable", [LAUNCH_FOLDER, "LOCAL_RANK"])
def test_of_several_processes_the_launcher_or_the_first_says_it(tmp_path, monkeypatch, capfd, variable):
    monkeypatch.setenv(variable, str(tmp_path) if variable == LAUNCH_FOLDER else "1")
    stop = StopRequest()
    os.kill(os.getpid(), signal.SIGTERM)
    stop.close()
    assert stop.is_asked() and capfd.readouterr().err == ""


def test_a_loader_process_keeps_silent(stop, capfd):
    child = os.fork()
    if child == 0:  # as a loader's worker: a copy of the process with its handlers
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0 and capfd.readouterr().err == ""
    os.kill(os.getpid(), signal.SIGINT)
    assert capfd.readouterr().err == f"{ASKED}\n"


def test_a_closed_stderr_does_not_disturb_the_step(stop):
    kept = os.dup(2)
    try:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 2)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        os.dup2(kept, 2)
    assert stop.is_asked()


def test_output_that_nobody_reads_stops_silently(stop, capfd):
    stop.note_unread()
    assert stop.is_asked() and stop.exit_code() == EXIT_CLOSED_OUTPUT and capfd.readouterr().err == ""
    os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C ends `| tee` too: the signal counts
    assert stop.exit_code() == EXIT_REQUEUE


class Arguments:
    debug = False


def end_with(error: Exception) -> int:
    def story(args):
        raise error

    return run_story(story, Arguments())


LOST = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242")


def test_a_connection_lost_by_anothers_error_is_not_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(LAUNCH_FOLDER, str(tmp_path))
    assert end_with(UserError("list.txt:4: no such clip")) == EXIT_USER_ERROR
    assert end_with(LOST) == EXIT_FAILURE
    assert capsys.readouterr().err == "error: list.txt:4: no such clip\n"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert end_with(LOST) == EXIT_FAILURE
    assert "lost the connection" in capsys.readouterr().err


def test_after_a_traceback_neither(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(LAUNCH_FOLDER, str(tmp_path))
    with pytest.raises(AssertionError):
        end_with(AssertionError("a fault of ours"))
    assert end_with(LOST) == EXIT_FAILURE
    assert capsys.readouterr().err == ""


def test_a_connection_lost_to_another_machine_is_told_once(tmp_path, monkeypatch, capsys):
    for folder in (None, tmp_path):
        if folder:
            monkeypatch.setenv(LAUNCH_FOLDER, str(folder))
        assert end_with(LOST) == EXIT_FAILURE
        assert capsys.readouterr().err.startswith("error: lost the connection to another process (Connection closed")
    assert end_with(LOST) == EXIT_FAILURE
    assert capsys.readouterr().err == ""


def test_of_one_launch_one_process_says_that_it_was_asked_to_stop(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(LAUNCH_FOLDER, str(tmp_path))
    assert [end_with(Stopped()), end_with(Stopped())] == [0, 0]
    assert capsys.readouterr().err.count("asked to stop") == 1


CLOSED = """
import sys
from utils.cli import run_story
def story(args):
    while {condition}:
        print("a line", flush={flush})
    return {code}
args = type("Arguments", (), {{"debug": False}})
sys.exit(run_story(story, args))
"""


@pytest.mark.parametrize(
    ("condition", "flush", "code", "expected"),
    [("True", True, 0, 141), ("print('buffered')", False, 0, 141), ("print('buffered')", False, 75, 75)],
)
def test_a_closed_output_ends_silently(condition, flush, code, expected):
    words = [sys.executable, "-c", CLOSED.format(condition=condition, flush=flush, code=code)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPO, env=environment, text=True
    )
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == ("", expected)


def test_another_broken_pipe_is_a_lost_connection(monkeypatch):
    with Path(os.devnull).open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        monkeypatch.setattr(sys, "stderr", file)
        told = []
        monkeypatch.setattr("utils.cli._tell", told.append)
        assert end_with(BrokenPipeError(errno.EPIPE, "Broken pipe")) == EXIT_FAILURE
    assert told[0].startswith("lost the connection to another process (Broken pipe)")
