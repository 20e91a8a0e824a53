"""Runs train.py for a given time, and reports whether memory, open files or processes grow.

The minutes are divided among the configs (frames, video files, packed clips), which train epoch after epoch with
loaders, validations and checkpoints. Once per second, the memory, open files and processes of the run and its loader
processes are counted and written to DIR/<config>.csv. Memory excludes file-backed pages such as libraries, and counts
a page shared by n processes as 1/n in each. Growth over the last two thirds of the time is computed by linear
regression; the exit code is 1 if any count grew by 2% or more. Linux only.

Examples:
    python -m tools.soak --config configs/shapes/transf.yaml --config configs/shapes/video.yaml --minutes 30
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.cli import Parser, run_command
from utils.csv_files import write_csv
from utils.errors import UserError
from utils.project_paths import REPOSITORY
from utils.stop import EXIT_REQUEUE, end_with_parent

MAX_GROWTH_PERCENT = 2.0
SAMPLE_SECONDS = 1.0


class Sample(NamedTuple):
    seconds: float
    resident_mib: float
    open_files: int
    processes: int


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--config", "-cfg", required=True, action="append", metavar="YAML", help="may be repeated")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override in every config")
    parser.add_argument("--minutes", type=float, default=30, help="in all (default 30)")
    parser.add_argument("--out", metavar="DIR", default="exp/soak", help="folder of the counts (default exp/soak)")
    return parser.parse_intermixed_args(arguments)


def process_tree(pid: int) -> list[int]:
    """A process and its descendants."""
    pids = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            pids += process_tree(int(child))
    return pids


def measure(pid: int, started: float) -> Sample:
    """Counts of a process and its descendants."""
    resident_kib = open_files = processes = 0
    for member in process_tree(pid):
        try:
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
            open_files += len(list(Path(f"/proc/{member}/fd").iterdir()))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has exited
        kib = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
        resident_kib += kib["Pss_Anon"] + kib["Pss_Shmem"]
        processes += 1
    return Sample(time.monotonic() - started, resident_kib / 1024, open_files, processes)


def watch(config: str, overrides: list[str], seconds: float) -> list[Sample]:
    """Train `config` for the given time after its first step; returns the counts. Raises a UserError if the run exited
    early."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "output").open("w+") as output:
        words = ["solver.epochs=1000000", f"logging.run_dir={folder}/run", "logging.tensorboard=false", *overrides]
        command = [sys.executable, "train.py", "--config", config, *words]
        end = partial(end_with_parent, signal.SIGTERM)
        run = subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=output, preexec_fn=end)
        samples, started = [], None
        try:
            while run.poll() is None and (started is None or time.monotonic() - started < seconds):
                time.sleep(SAMPLE_SECONDS)
                metrics = Path(folder) / "run" / "metrics.jsonl"
                if started is None and metrics.exists() and metrics.stat().st_size:
                    started = time.monotonic()
                if started is not None and run.poll() is None:
                    samples.append(measure(run.pid, started))
            run.send_signal(signal.SIGTERM)
            if run.wait(timeout=120) != EXIT_REQUEUE:
                output.seek(0)
                raise UserError(f"{config}: the run exited with code {run.returncode}: {output.read()[-500:].strip()}")
        finally:
            run.kill()
            run.wait()
    return samples


def growth_percent(samples: list[Sample], column: int) -> float:
    """Growth over the last two thirds of the time, by linear regression."""
    counts = np.array(samples)
    late = counts[counts[:, 0] >= counts[-1, 0] / 3]
    slope, start = np.polyfit(late[:, 0] - late[0, 0], late[:, column], 1)
    return 100 * slope * (late[-1, 0] - late[0, 0]) / start


def main(args: argparse.Namespace) -> int:
    if not args.minutes > 0:
        raise UserError(f"--minutes {args.minutes:g}: must be above 0")
    has_grown = False
    for config in args.config:
        samples = watch(config, args.overrides, 60 * args.minutes / len(args.config))
        if len(samples) < 10:
            raise UserError(f"--minutes {args.minutes}: too short to measure growth")
        path = Path(args.out) / f"{Path(config).stem}.csv"
        write_csv(path, Sample._fields, samples)
        for column, name in enumerate(Sample._fields[1:], start=1):
            grown = growth_percent(samples, column)
            has_grown |= grown >= MAX_GROWTH_PERCENT
            minutes = samples[-1].seconds / 60
            print(
                f"soak: {config}: {name} {samples[-1][column]:.0f}, {grown:+.2f}% over the last two thirds of "
                f"{minutes:.1f} min ({path})",
                flush=True,
            )
    return 1 if has_grown else 0


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
