"""utils/stop.py: requests to stop, and who of a launch's processes speaks."""

import os
import signal

import pytest

from utils.cli import EXIT_FAILURE, EXIT_USER_ERROR, run_story
from utils.errors import UserError
from utils.stop import LAUNCH_FOLDER, StopRequest


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
