"""Asked to stop by a signal: finish the step, save, leave with a code that says "run me again".

Several processes are started by scripts/launch.py. It owns the signals, and hands a request on through a folder that it
names in the environment: a file there asks all to stop, another says that they stopped with the run to be gone on with.
They then leave with 0, because torchrun takes any other code for a failure; the launcher itself leaves with 75.
"""

import contextlib
import ctypes
import os
import signal
import sys
import zlib
from pathlib import Path
from types import FrameType

EXIT_REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: a temporary failure, the caller is invited to try again
EXIT_CLOSED_OUTPUT = 141  # 128 + SIGPIPE, as shells count
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
LAUNCH_FOLDER = "LAUNCH_FOLDER"  # environment variable: a folder of the launcher on this machine
STOP_FILE, REQUEUE_FILE = "stop", "requeue"
ASKED = "asked to stop: finishing the step and saving it; a second Ctrl-C ends at once"


def launch_folder() -> Path | None:
    """The folder shared by the processes of one launch on this machine; None for a process started alone."""
    folder = os.environ.get(LAUNCH_FOLDER)
    return Path(folder) if folder else None


def first_to_say(message: str) -> bool:
    """Whether no other process of this launch on this machine has asked for the same message before."""
    folder = launch_folder()
    try:
        if folder is not None:
            (folder / f"said-{zlib.crc32(message.encode())}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def note_error() -> None:
    """Tell the other processes of this launch on this machine that an error of this one ends them, too."""
    if (path := _error_file()) is not None:
        path.touch()


def has_error() -> bool:
    """Whether a process of this launch on this machine has called `note_error`, since the last restart."""
    path = _error_file()
    return path is not None and path.exists()


def _error_file() -> Path | None:
    folder = launch_folder()
    return folder and folder / f"error-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"


def end_with_parent(number: int) -> None:
    """Have the kernel send signal `number` to this process when its parent dies (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)


def requeue_code() -> int:
    """What to leave with after a request to stop: 75, or 0 to a launcher, which then leaves with 75."""
    folder = launch_folder()
    if folder is None:
        return EXIT_REQUEUE
    (folder / REQUEUE_FILE).touch()
    return 0


def _say_at_once(line: str) -> None:
    """Print to stderr from a signal handler, which may have interrupted a print to it; on a terminal below a bar."""
    with contextlib.suppress(OSError):  # nobody is left to read it, and that must not end the step
        os.write(2, f"{os.linesep if os.isatty(2) else ''}{line}\n".encode())


class Stopped(Exception):
    """Some process was asked to stop, and all leave what they were doing; there is nothing of it to save."""


class StopRequest:
    """Catches SIGTERM, SIGINT and SIGUSR1 while it is open; a second SIGINT interrupts at once.

    The first signal is answered by one line; of several processes, the launcher says it.
    """

    def __init__(self) -> None:
        self._is_asked = self._is_unread = False
        self._num_interrupts = 0
        self._folder = launch_folder()
        self._pid = os.getpid()
        self._old = {number: signal.signal(number, self._handle) for number in SIGNALS}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._num_interrupts += number == signal.SIGINT
        if number == signal.SIGINT and self._num_interrupts > 1:
            raise KeyboardInterrupt
        is_first = os.getpid() == self._pid and os.environ.get("LOCAL_RANK", "0") == "0"  # no loader process
        if not self._is_asked and self._folder is None and is_first:
            _say_at_once(ASKED)
        self._is_asked = True

    def note_unread(self) -> None:
        """Nobody reads the output any more: this process is asked to stop, as by a signal but silently."""
        self._is_unread = True

    def is_asked(self) -> bool:
        """Whether this process or its launcher was asked to stop."""
        is_launcher_asked = self._folder is not None and (self._folder / STOP_FILE).exists()
        return self._is_asked or self._is_unread or is_launcher_asked

    def exit_code(self) -> int:
        """What to leave with when asked and all is saved: `requeue_code`, or 141 where it was by a closed output."""
        is_output_alone = self._is_unread and not self._is_asked and self._folder is None
        return EXIT_CLOSED_OUTPUT if is_output_alone else requeue_code()

    def close(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
