"""Stopping on a signal: finish the step, save, and exit with a code that asks the scheduler to requeue the job.

Several processes are started by scripts/launch.py, which handles the signals and shares a folder with the processes
(an environment variable). Files in the folder: `stop` asks all processes to stop; `requeue` means that they stopped and
the run can be resumed; `failed-N` contains the exit code of the first process that failed in attempt N.

After a request to stop, processes exit with 0, because torchrun treats any other code as a failure; the launcher exits
with 75.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from utils.terminal import leave_terminal

EXIT_REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: temporary failure, try again
# The last two: the terminal was closed, the limit of CPU time was reached.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGXCPU)
Handler = Callable[[int, FrameType | None], None]
REPEAT_SECONDS = 1.0  # `timeout` signals its child and then the process group, so the same signal arrives twice
LAUNCH_FOLDER = "LAUNCH_FOLDER"  # environment variable: folder shared by the launcher and its processes
STOP_FILE, REQUEUE_FILE = "stop", "requeue"
ASKED = "stopping: finishing the current step and saving a checkpoint; press Ctrl-C again to exit at once"


def catch_signals(handle: Handler) -> dict[int, Any]:
    """Handle SIGNALS by `handle`, except a SIGHUP that is ignored (nohup); returns the former handlers."""

    def handle_and_leave(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        handle(number, frame)

    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    caught = [number for number in SIGNALS if number != signal.SIGHUP or not ignored]
    return {number: signal.signal(number, handle_and_leave) for number in caught}


def launch_folder() -> Path | None:
    """The folder shared by the processes of a launch on this machine; None without a launcher."""
    folder = os.environ.get(LAUNCH_FOLDER)
    return Path(folder) if folder else None


def is_first_failure(code: int) -> bool:
    """Whether this process, about to exit with `code`, is the first of its launch on this machine to fail."""
    folder = launch_folder()
    try:
        if folder is not None:
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)  # torchrun counts its restarts
            with (folder / f"failed-{attempt}").open("x") as file:
                file.write(str(code))
    except FileExistsError:
        return False
    return True


def end_with_parent(number: int) -> None:
    """Have the kernel send signal `number` to this process when its parent exits (Linux only)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)


def requeue_code() -> int:
    """The exit code after a request to stop: 75, or 0 under a launcher, which then exits with 75."""
    folder = launch_folder()
    if folder is None:
        return EXIT_REQUEUE
    (folder / REQUEUE_FILE).touch()
    return 0


class Stopped(Exception):
    """Raised on all processes after a request to stop if there is nothing to save."""


class InterruptCounter:
    """Distinguishes a second Ctrl-C from the first."""

    _first_at: float | None = None

    def is_second(self, number: int) -> bool:
        """Whether signal `number` is a SIGINT that follows an earlier one after at least REPEAT_SECONDS."""
        if number != signal.SIGINT:
            return False
        if self._first_at is None:
            self._first_at = time.monotonic()
            return False
        return time.monotonic() - self._first_at > REPEAT_SECONDS


class StopRequest:
    """Catches SIGNALS until closed; a second SIGINT raises KeyboardInterrupt.

    The first signal prints one line (printed by the launcher if it started several processes).
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._interrupts = InterruptCounter()
        self._folder = launch_folder()
        self._old = catch_signals(self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._interrupts.is_second(number):
            raise KeyboardInterrupt
        if not self._is_asked and self._folder is None and os.environ.get("LOCAL_RANK", "0") == "0":
            # print is not reentrant, and may have been interrupted. On a terminal the line goes below a progress bar.
            with contextlib.suppress(OSError):  # a closed stderr must not end the step
                os.write(2, f"{os.linesep if os.isatty(2) else ''}{ASKED}\n".encode())
        self._is_asked = True

    def is_asked(self) -> bool:
        """Whether this process or its launcher received a request to stop."""
        return self._is_asked or (self._folder is not None and (self._folder / STOP_FILE).exists())

    def close(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
