"""utils/stop.py: requests to stop, and which process of a launch prints messages."""

import errno
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.commands.world import REPO
from utils.cli import EXIT_FAILURE, EXIT_LOST_CONNECTION, EXIT_USER_ERROR, LOST_CONNECTION, run_command
from utils.errors import MachineError, UserError
from utils.stop import ASKED, EXIT_REQUEUE, LAUNCH_FOLDER, Stopped, StopRequest, requeue_code


@pytest.fixture
def stop():
    request = StopRequest()
    yield request
    request.close()


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGUSR1])
def test_the_second_interrupt_stops_at_once(stop, monkeypatch, first):
    monkeypatch.setattr("utils.stop.REPEAT_SECONDS", 0.0)
    os.kill(os.getpid(), first)
    os.kill(os.getpid(), first)
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.is_asked()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_the_limit_of_cpu_time_is_a_request(stop):
    os.kill(os.getpid(), signal.SIGXCPU)
    assert stop.is_asked()


ON_A_TERMINAL = """
import signal, sys, time
from pathlib import Path
from utils.distributed import Process
from utils.runlog import open_log
from utils.stop import StopRequest
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[2] == "nohup" else signal.SIG_DFL)
stop, log = StopRequest(), open_log(Process(0, 1, 0, None))
log.info("ready")
for _ in range(100):
    time.sleep(0.02)
    log.info("a line")
Path(sys.argv[1]).write_text(f"asked: {stop.is_asked()}")
"""


@pytest.mark.parametrize("way", ["plain", "nohup"])
def test_a_terminal_that_is_closed_is_a_request_and_writing_to_it_no_error(tmp_path, way):
    ours, theirs = pty.openpty()
    words = [sys.executable, "-c", ON_A_TERMINAL, str(tmp_path / "end"), way]
    lead = {"start_new_session": True, "preexec_fn": lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)}
    process = subprocess.Popen(words, cwd=REPO, stdin=theirs, stdout=theirs, stderr=theirs, **lead)
    os.close(theirs)
    os.read(ours, 5)
    os.close(ours)
    assert process.wait(60) == 0
    assert (tmp_path / "end").read_text() == f"asked: {way == 'plain'}"


def test_an_interrupt_delivered_twice_counts_once(stop):
    """`timeout -s INT` sends the signal to its child and then to the group, which includes the child."""
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.is_asked()


def test_the_first_signal_prints_one_line(stop, capfd):
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    assert capfd.readouterr().err == f"{ASKED}\n"
    assert requeue_code() == EXIT_REQUEUE


@pytest.mark.parametrize("variable", [LAUNCH_FOLDER, "LOCAL_RANK"])
def test_only_the_launcher_or_the_first_process_prints_it(tmp_path, monkeypatch, capfd, variable):
    monkeypatch.setenv(variable, str(tmp_path) if variable == LAUNCH_FOLDER else "1")
    stop = StopRequest()
    os.kill(os.getpid(), signal.SIGTERM)
    stop.close()
    assert stop.is_asked() and capfd.readouterr().err == ""


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


class Arguments:
    debug = False


def end_with(error: Exception) -> int:
    def main(args):
        raise error

    return run_command(main, Arguments())


LOST = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242")


def test_a_lost_connection_is_left_to_the_launcher(tmp_path, monkeypatch, capsys):
    """The launcher knows the cause (a process that was killed or failed first), and prints only that."""
    monkeypatch.setenv(LAUNCH_FOLDER, str(tmp_path))
    assert end_with(LOST) == EXIT_LOST_CONNECTION
    assert capsys.readouterr().err == "" and not list(tmp_path.iterdir())
    monkeypatch.delenv(LAUNCH_FOLDER)
    assert end_with(LOST) == EXIT_FAILURE
    assert capsys.readouterr().err == f"error: {LOST_CONNECTION}\n"


def test_only_the_first_error_of_a_launch_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(LAUNCH_FOLDER, str(tmp_path))
    assert end_with(UserError("list.txt:4: no such clip")) == EXIT_USER_ERROR
    assert end_with(MachineError("a loader process was killed")) == EXIT_FAILURE
    assert capsys.readouterr().err == "error: list.txt:4: no such clip\n"
    assert (tmp_path / "failed-0").read_text() == "2"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert end_with(MachineError("a loader process was killed")) == EXIT_FAILURE
    assert capsys.readouterr().err == "error: a loader process was killed\n"


SIZES = RuntimeError("[enforce fail at gloo/transport/tcp/pair.cc:446] op.preamble.length <= op.nbytes. 8 vs 4")


@pytest.mark.parametrize("error", [RuntimeError("Connection timed out"), AssertionError("Connection"), SIZES], ids=str)
def test_a_bug_keeps_its_traceback(tmp_path, monkeypatch, capsys, error):
    monkeypatch.setenv(LAUNCH_FOLDER, str(tmp_path))
    assert end_with(UserError("list.txt:4: no such clip")) == EXIT_USER_ERROR
    with pytest.raises(type(error)):
        end_with(error)


def test_one_process_per_launch_reports_a_request_to_stop(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(LAUNCH_FOLDER, str(tmp_path))
    for rank in "01":
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert end_with(Stopped()) == 0
    assert capsys.readouterr().err.count("stopped by a signal") == 1


CLOSED = """
import sys
from utils.cli import run_command
def main(args):
    while {condition}:
        print("a line", flush={flush})
    return {code}
args = type("Arguments", (), {{"debug": False}})
sys.exit(run_command(main, args))
"""


@pytest.mark.parametrize(
    ("condition", "flush", "code", "expected"),
    [("True", True, 0, 141), ("print('buffered')", False, 0, 141), ("print('buffered')", False, 75, 141)],
)
def test_a_closed_output_ends_silently(condition, flush, code, expected):
    words = [sys.executable, "-c", CLOSED.format(condition=condition, flush=flush, code=code)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPO, env=environment, text=True
    )
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == ("", expected)


def test_another_broken_pipe_keeps_its_traceback(monkeypatch):
    with Path(os.devnull).open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        monkeypatch.setattr(sys, "stderr", file)
        with pytest.raises(BrokenPipeError):
            end_with(BrokenPipeError(errno.EPIPE, "Broken pipe"))
