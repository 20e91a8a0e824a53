"""Runs in separate processes, which tests interrupt."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from tests.commands.world import REPO

ON_CPU = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
ONE_LINE_NOISE = ("[W", "[rank", "warnings.warn")  # what PyTorch's C++ parts and warnings may add to stderr


class LiveRun:
    """run_train.sh on `config` into `run_dir`, as a process that can be signalled."""

    def __init__(self, config: Path, run_dir: Path, *overrides: str, **environment: str):
        self.run_dir = run_dir
        self._stderr = (run_dir.parent / f"{run_dir.name}.stderr").open("w+")
        # What a killed process leaves there goes with it.
        self._temporary = tempfile.TemporaryDirectory(prefix="run-", ignore_cleanup_errors=True)
        environment = {"TMPDIR": self._temporary.name, **environment}
        self.process = subprocess.Popen(
            ["sh", "scripts/run_train.sh", str(config), f"logging.run_dir={run_dir}", *overrides],
            cwd=REPO,
            env={**os.environ, "PYTHON": sys.executable, **ON_CPU, **environment},
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,
        )  # fmt: skip

    def wait_for_steps(self, num_steps: int) -> None:
        path = self.run_dir / "metrics.jsonl"
        self.wait_until(lambda: path.exists() and path.read_text().count("\n") >= num_steps)

    def wait_until(self, is_so: Callable[[], bool], timeout: float = 240) -> None:
        started = time.monotonic()
        while not is_so():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.errors()}"
            assert time.monotonic() - started < timeout, "nothing happened"
            time.sleep(0.02)

    def children(self, of: int | None = None) -> list[int]:
        """Processes that the launcher (or `of`) started."""
        found = []
        for path in Path(f"/proc/{of or self.process.pid}/task").glob("*/children"):
            found += [int(pid) for pid in path.read_text().split()]
        return sorted(found)

    def descendants(self) -> list[int]:
        """Processes that the command started, and those that they started."""
        found = self.children()
        for pid in found:  # grows on the way
            found += self.children(pid)
        return found

    def everyone(self) -> list[int]:
        """The descendants, then the command itself."""
        return [*self.descendants(), self.process.pid]

    def catches(self, number: int) -> bool:
        """Whether the command has a handler for this signal (Python has one for SIGINT from its start)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
        return bool(caught >> (number - 1) & 1)

    def rank(self, number: int) -> int:
        """The process id of a rank."""
        for pid in self.children():
            if f"\0RANK={number}\0" in Path(f"/proc/{pid}/environ").read_text():
                return pid
        raise AssertionError(f"no process of rank {number}")

    def end(self, timeout: float = 240) -> int:
        return self.process.wait(timeout)

    def errors(self) -> list[str]:
        """Lines of stderr, without PyTorch's own."""
        self._stderr.seek(0)
        return [line for line in self._stderr.read().splitlines() if not line.strip().startswith(ONE_LINE_NOISE)]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._stderr.close()
        self._temporary.cleanup()


@contextmanager
def live_run(*arguments, **environment):
    run = LiveRun(*arguments, **environment)
    try:
        yield run
    finally:
        run.close()
