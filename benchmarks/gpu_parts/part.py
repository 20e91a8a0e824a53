"""Arguments and results of a part of the check, and the process that runs the parts one after another."""

import contextlib
import faulthandler
import importlib
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import av

from utils.errors import first_line
from utils.stop import end_with_parent

OK, FAILED, SKIPPED, NOT_RUN = "ok", "FAILED", "skipped", "not run"
GRACE = 3.0  # seconds in which a part that exceeded its limit can write its traceback
LAST_LINES = 80  # of the log that are shown for a part whose process ended

Figures = dict[str, Any]  # JSON-serialisable results


class Setting(NamedTuple):
    """`device`: cuda or cpu; `tiny`: small models and few clips; `scratch`: a folder for temporary files."""

    device: str
    tiny: bool
    scratch: str


class Found(NamedTuple):
    """Result of a part: a line for the table, and numbers for the JSON file and later parts."""

    text: str
    figures: Figures


class Skipped(Exception):
    """Raised by a part that cannot run; the message is the reason."""


class Row(NamedTuple):
    """A part's outcome; `result` is OK, FAILED, SKIPPED or NOT_RUN."""

    part: str
    result: str
    seconds: float
    text: str
    figures: Figures
    traceback: str = ""


def expect(is_true: bool, message: str) -> None:
    """Raise AssertionError with `message` unless `is_true`, also under `python -O`."""
    if not is_true:
        raise AssertionError(message)


class Worker:
    """A process that runs parts one after another, so that a part that crashes or hangs does not affect the others. Its
    output is written to the file `log`.
    """

    def __init__(self, setting: Setting, log: Path):
        log.touch()
        context = multiprocessing.get_context("spawn")  # a forked process could not use CUDA
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, setting, str(log)))
        before = os.environ.get("LD_LIBRARY_PATH", "")
        os.environ["LD_LIBRARY_PATH"] = _library_path(Path(setting.scratch, "ffmpeg"))
        try:
            self._process.start()  # glibc reads the variable when a process starts
        finally:
            os.environ["LD_LIBRARY_PATH"] = before  # other programs have their own FFmpeg
        other.close()
        self._log = log

    def run(self, part: str, function: str, earlier: dict[str, Figures], limit: float) -> Row:
        """Run a part; returns a row even if the part fails, crashes or hangs.

        Args:
            function: dotted path of the part's function.
            limit: seconds after which the part is terminated.
        """
        started = time.monotonic()
        log_start = self._log.stat().st_size if self._log.exists() else 0
        fault = f"took longer than {limit:.0f} s and was ended"
        try:
            self._connection.send((part, function, earlier, limit))
            if self._connection.poll(limit + GRACE):
                return self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            fault = f"the process ended with exit code {self._process.exitcode}"
        self.close()
        with self._log.open("rb") as file:
            file.seek(log_start)
            lines = file.read().decode(errors="replace").splitlines()
        return Row(part, FAILED, time.monotonic() - started, fault, {}, "\n".join(lines[-LAST_LINES:]))

    def close(self) -> None:
        """Kill the process and its child processes."""
        assert self._process.pid
        with contextlib.suppress(ProcessLookupError):  # it has ended, or has not become a process group leader yet
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()


def _library_path(folder: Path) -> str:
    """LD_LIBRARY_PATH with the FFmpeg of PyAV's wheel first, because torchcodec has none.

    Its files are linked in `folder` by their usual names: libavcodec.so.62 to libavcodec-5e6b81c2.so.62.28.102.
    """
    folder.mkdir(exist_ok=True)
    wheel = Path(av.__file__).parents[1] / "av.libs"
    for file in wheel.glob("lib*.so.*"):
        link = folder / re.sub(r"-[0-9a-f]{8}(\.so\.[0-9]+).*", r"\1", file.name)
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    # The wheel's folder too: its libraries need each other by the names with hashes.
    return os.pathsep.join([str(folder), str(wheel), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])


def _work(connection: Connection, setting: Setting, log: str) -> None:
    os.setsid()  # a separate process group, which can be killed as a whole
    end_with_parent(signal.SIGKILL)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    faulthandler.enable()
    if setting.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported, so that GPUs are not used
    while True:
        part, function, earlier, limit = connection.recv()
        faulthandler.dump_traceback_later(limit)
        row = _run(part, function, setting, earlier)
        faulthandler.cancel_dump_traceback_later()
        sys.stdout.flush()
        connection.send(row)


def _run(part: str, function: str, setting: Setting, earlier: dict[str, Figures]) -> Row:
    started = time.monotonic()
    try:
        module, _, name = function.rpartition(".")
        found = getattr(importlib.import_module(module), name)(setting, earlier)
        return Row(part, OK, time.monotonic() - started, found.text, found.figures)
    except Skipped as reason:
        return Row(part, SKIPPED, time.monotonic() - started, str(reason), {})
    except Exception as error:  # reported in the table, since finding errors is the purpose
        text = f"{type(error).__name__}: {first_line(error)}"
        return Row(part, FAILED, time.monotonic() - started, text, {}, traceback.format_exc())
