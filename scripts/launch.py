"""Starts several processes with torchrun and handles their signals; used by the launchers run_*.sh.

    python scripts/launch.py [torchrun's options] SCRIPT [its arguments]

On SIGTERM, SIGINT, SIGUSR1, SIGHUP or SIGXCPU, all processes finish their step, save and exit with code 75, so that a
scheduler can run the job again. If other machines have not joined yet, it exits with 75 at once. A second SIGINT kills
the processes at once (130). Otherwise the exit code is 0, 2 (a user's mistake, printed by the process that found it) or
1 (a process failed or was killed; one line names it).

torchrun alone would kill the processes 30 s after a signal, even while they are saving, and exit with 1.
"""

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from torch.distributed import run as torchrun  # noqa: E402
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: E402

from utils.cli import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_LOST_CONNECTION, LOST_CONNECTION  # noqa: E402
from utils.stop import (  # noqa: E402
    ASKED,
    EXIT_REQUEUE,
    LAUNCH_FOLDER,
    REQUEUE_FILE,
    SIGNALS,
    STOP_FILE,
    InterruptCounter,
    catch_signals,
)

NOTHING_STARTED = (
    "stopped by a signal before the processes were started (all machines must join first): nothing was written; run "
    "the same command again"
)


def processes() -> list[int]:
    """All child processes, from Linux's /proc."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found += [int(pid) for pid in path.read_text().split()]
    return found


def kill_processes() -> None:
    """Kill all child processes."""
    for pid in processes():
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            os.killpg(pid, signal.SIGKILL)  # each worker leads its own session, which includes its loader processes


def describe(error: ChildFailedError) -> str:
    """One line about the process that failed first; killed processes come before those that failed because of them."""
    rank, failure = min(error.failures.items(), key=lambda item: (item[1].exitcode >= 0, item[1].timestamp))
    if failure.exitcode < 0:
        end = f"was killed by {signal.Signals(-failure.exitcode).name}"
    else:
        end = f"failed with exit code {failure.exitcode}"
    return (
        f"process {rank} (pid {failure.pid}) {end}; the others were stopped; add resume=auto to continue from the last "
        "checkpoint"
    )


class Launch:
    """A call of torchrun in a separate thread, so that signals are handled by the main thread."""

    def __init__(self, folder: Path, arguments: list[str]):
        self._folder, self._arguments = folder, arguments
        self._interrupts = InterruptCounter()
        self._has_processes = sys.platform != "linux"  # without /proc they are assumed to exist
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            torchrun.run(torchrun.parse_args(self._arguments))
        except BaseException as error:  # raised again or printed in the main thread
            self.error = error

    def _handle(self, number: int, frame: object) -> None:
        (self._folder / STOP_FILE).touch()
        if self._interrupts.is_second(number):
            kill_processes()
            shutil.rmtree(self._folder, ignore_errors=True)  # torchrun's thread may still write into it
            os._exit(EXIT_INTERRUPTED)

    def is_running(self) -> bool:
        return self._thread.is_alive()

    def wait(self) -> int:
        """The exit code. If a signal arrives before torchrun has started processes, torchrun is still running."""
        catch_signals(self._handle)
        self._thread.start()
        has_answered = False
        while self._thread.is_alive():
            self._thread.join(timeout=0.2)  # signals are handled between two waits
            self._has_processes = self._has_processes or bool(processes())
            if not has_answered and (self._folder / STOP_FILE).exists():
                has_answered = True
                print(ASKED if self._has_processes else NOTHING_STARTED, file=sys.stderr, flush=True)
                if not self._has_processes:
                    return EXIT_REQUEUE
        is_asked = (self._folder / STOP_FILE).exists() or (self._folder / REQUEUE_FILE).exists()
        if isinstance(self.error, ChildFailedError):
            return self._failure(self.error, is_asked)
        if self.error is not None:
            raise self.error
        return EXIT_REQUEUE if is_asked and (self._folder / REQUEUE_FILE).exists() else 0

    def _failure(self, error: ChildFailedError, is_asked: bool) -> int:
        """The exit code after processes failed; prints the reason unless the first of them has done so."""
        if is_asked and all(-failure.exitcode in SIGNALS for failure in error.failures.values()):
            return EXIT_REQUEUE  # the signal reached processes that were still starting
        # torchrun ends the other processes with SIGTERM.
        is_killed = any(failure.exitcode not in (-signal.SIGTERM, *range(256)) for failure in error.failures.values())
        attempts = sorted(self._folder.glob("failed-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        if attempts and not is_killed:
            return int(attempts[-1].read_text())
        is_lost = any(failure.exitcode == EXIT_LOST_CONNECTION for failure in error.failures.values())
        print(f"error: {LOST_CONNECTION if is_lost and not is_killed else describe(error)}", file=sys.stderr)
        return EXIT_FAILURE


def main(arguments: list[str]) -> int:
    logging.disable(logging.ERROR)  # instead of torchrun's long report of a failure, one line is printed
    with tempfile.TemporaryDirectory(prefix="launch-") as folder:
        os.environ[LAUNCH_FOLDER] = folder
        # Without log_dir torchrun creates a folder and does not remove it.
        launch = Launch(Path(folder), ["--log_dir", folder, *arguments])
        code = launch.wait()
    if launch.is_running():  # it waits for other machines, which cannot be interrupted except by ending this process
        kill_processes()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
