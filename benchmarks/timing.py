"""Functions shared by the benchmarks: interleaved runs on one thread, medians and quartiles, tables, environment."""

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import av
import numpy as np
import torch
import torchvision

from utils.project_paths import REPOSITORY

CPU_TIME = "one thread, CPU time"


def start(description: str | None, rounds: int, question: str, how: str = CPU_TIME) -> argparse.Namespace:
    """Parse `videos`, the folder of clips, and `rounds`, whose default is given; make PyTorch use one thread, and print
    the heading `question`, and `how` it is measured."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--rounds", type=int, default=rounds)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print_header(question, how)
    return args


def interleaved(functions: Mapping[str, Callable[..., object]], rounds: int, calls: int = 1) -> dict[str, np.ndarray]:
    """CPU seconds per call of each function, (rounds,) each. The functions run alternately, so that changes of the
    machine's speed affect all of them; CPU time excludes other programs.

    Args:
        functions: name -> function of a running number, the same numbers for all.
        calls: number of calls of each function per round, which are averaged.
    """
    seconds = {name: np.zeros(rounds) for name in functions}
    for function in functions.values():
        function(0)
    for current in range(rounds):
        for name, function in functions.items():
            started = time.process_time()
            for call in range(calls):
                function(current * calls + call)
            seconds[name][current] = (time.process_time() - started) / calls
    return seconds


def print_header(question: str, how: str = CPU_TIME) -> None:
    """Print a heading and the environment: date, commit, command, machine and library versions."""
    print(f"### {question}\n")
    print(f"{describe_environment()}  ")
    print(f"{os.cpu_count()}-core {platform.machine()} CPU machine ({_cpu_name()}), {how};", end=" ")
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, PyAV {av.__version__}\n")


def describe_environment() -> str:
    """Date, commit and command line; the commit is unknown without git."""
    commit = "unknown"
    if shutil.which("git"):
        words = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True).stdout.strip() or commit
    return f"{datetime.date.today().isoformat()}, commit {commit}, `python {' '.join(sys.argv)}`"


def markdown_table(columns: list[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return "\n".join(lines + [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]) + "\n"


def print_table(columns: list[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table and an empty line."""
    print(markdown_table(columns, rows))


def in_ms(seconds: np.ndarray) -> str:
    """Median (first to third quartile) in ms."""
    low, median, high = np.percentile(seconds * 1e3, [25, 50, 75])
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def ratio(slow: np.ndarray, fast: np.ndarray) -> float:
    """Ratio of the medians."""
    return float(np.median(slow) / np.median(fast))


def memory_bytes(field: str, file: str = "status", pid: int | str = "self") -> int:
    """The sum of the fields of /proc/PID/FILE whose names begin with `field`, such as VmHWM, or Private of smaps_rollup
    (Linux only)."""
    lines = Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def run_tool(name: str, *arguments: object) -> None:
    """Run `python -m tools.NAME`. Exit code 1 is accepted, since some videos may be corrupted.

    Args:
        arguments: must have absolute paths, since the current folder is the repository.
    """
    command = [sys.executable, "-m", f"tools.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode > 1:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
