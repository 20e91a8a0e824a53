"""What a part of the check is given and gives back, and the process that runs parts one after another."""

import contextlib
import faulthandler
import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import first_line
from utils.stop import end_with_parent

OK, FAILED, SKIPPED, NOT_RUN = "ok", "FAILED", "skipped", "not run"
GRACE = 3.0  # seconds that a part over its limit has to write where it is
LAST_LINES = 80  # of the log, for a part whose process ended

Figures = dict[str, Any]  # what json.dumps takes


class Setting(NamedTuple):
    """`device`: cuda or cpu; `tiny`: small models and few clips; `scratch`: a folder for files that nobody keeps."""

    device: str
    tiny: bool
    scratch: str


class Found(NamedTuple):
    """What a part found: one line for the table, and its figures for the JSON file and for later parts."""

    text: str
    figures: Figures


class Skipped(Exception):
    """A part that cannot run here; the message says why."""


class Row(NamedTuple):
    """A part's outcome; `result` is OK, FAILED, SKIPPED or NOT_RUN."""

    part: str
    result: str
    seconds: float
    text: str
    figures: Figures
    traceback: str = ""


def expect(is_true: bool, message: str) -> None:
    """Raises AssertionError with `message` unless `is_true`; also under `python -O`."""
    if not is_true:
        raise AssertionError(message)


class Worker:
    """A process that runs parts in turn, so that one that crashes or hangs takes nothing else with it.

    What it prints goes to the file `log`.
    """

    def __init__(self, setting: Setting, log: Path):
        log.touch()
        context = multiprocessing.get_context("spawn")  # a forked process could not use CUDA
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, setting, str(log)))
        self._process.start()
        other.close()
        self._log = log

    def run(self, part: str, function: str, earlier: dict[str, Figures], limit: float) -> Row:
        """Run a part; a row in any case.

        Args:
            function: dotted path of the part's function.
            limit: seconds after which the part is ended.
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
            fault = f"its process ended with exit code {self._process.exitcode}"
        self.close()
        with self._log.open("rb") as file:
            file.seek(log_start)
            lines = file.read().decode(errors="replace").splitlines()
        return Row(part, FAILED, time.monotonic() - started, fault, {}, "\n".join(lines[-LAST_LINES:]))

    def close(self) -> None:
        """End the process and those that it started."""
        assert self._process.pid
        with contextlib.suppress(ProcessLookupError):  # it has ended, or never became the leader of its group
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()


def _work(connection: Connection, setting: Setting, log: str) -> None:
    os.setsid()  # a group of its own, which can be ended as a whole
    end_with_parent(signal.SIGKILL)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    faulthandler.enable()
    if setting.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported: a GPU that is there is left alone
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
    except Exception as error:  # of any kind: it is what this program looks for
        text = f"{type(error).__name__}: {first_line(error)}"
        return Row(part, FAILED, time.monotonic() - started, text, {}, traceback.format_exc())
