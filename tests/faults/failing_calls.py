"""Fails, shortens or kills at the n-th file-system call of what writes files, and looks at what is left.

    python -m tests.faults.failing_calls [--cases 0] [--seed 0] [--only train]

Training, the caches of frame embeddings and of clips, testing, predicting, features, checking data, making lists,
extracting frames, packing videos into files and into tar files; EIO, ENOSPC, EINTR, short reads and writes, SIGKILL.
Each time: one line or none and never a traceback, every file whole or absent, and the same command run again gives
what an undisturbed run gives. Needs gcc and Linux. `--cases` is the number for each pair of a command and a fault,
evenly spread; 0 (the default) takes every call, which runs for about two hours on one core.
"""

import argparse
import ctypes
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import engine.extract_features  # noqa: F401  (so that a fork starts with all imports done)
import engine.predict  # noqa: F401
import engine.test  # noqa: F401
import engine.train  # noqa: F401
from tests.commands.world import World
from tests.faults.activities import Activity, activities, make_inputs
from tests.faults.injection import world_of_another_process
from tests.faults.live_runs import ON_CPU

SOURCE = Path(__file__).with_suffix(".c")
LIBRARY = "FAILING_CALLS_LIBRARY"  # environment variable
FAIL, SHORT, KILL = 1, 2, 3
FAULTS = {
    "EIO": (FAIL, errno.EIO),
    "ENOSPC": (FAIL, errno.ENOSPC),
    "EINTR": (FAIL, errno.EINTR),
    "short": (SHORT, 0),
    "kill": (KILL, 0),
}


class Life(NamedTuple):
    """How a run in a process of its own ended, what it printed, and its calls."""

    code: int
    output: str
    num_calls: int


def live(activity: Activity, out: Path, kind: int = 0, number: int = -1, error: int = 0) -> Life:
    """Run an activity in a fork, its `number`-th call below `out` disturbed."""
    log, calls = out.with_suffix(".log"), out.with_suffix(".calls")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            library = ctypes.CDLL(os.environ[LIBRARY])
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            library.faults_arm(os.fsencode(out), kind, ctypes.c_long(number), error)
            code = activity.run(out)
            if number < 0:  # else this could be the call that fails
                calls.write_text(str(library.faults_count()))
        except SystemExit as end:
            code = end.code
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Life(code, log.read_text(errors="replace"), int(calls.read_text()) if number < 0 else 0)


def fault_of(activity: Activity, out: Path, name: str, number: int, expected: dict[str, str]) -> str | None:
    """What is wrong after the fault `name` at call `number`, in words; None: nothing."""
    kind, error = FAULTS[name]
    life = live(activity, out, kind, number, error)
    codes = {KILL: (-signal.SIGKILL, 0), SHORT: (0,), FAIL: (0, 1, 2)}[kind]
    if "Traceback" in life.output or life.code not in codes:
        return f"exit code {life.code}: {life.output[-1500:]}"
    if life.code in (1, 2) and len(re.findall("^(?:error|failed): ", life.output, re.M)) != 1:
        return f"no line of its own: {life.output[-1500:]}"
    try:
        left = activity.files(out)
    except Exception as fault:
        return f"a bad file: {fault}"
    if activity.is_final and not left.items() <= expected.items():
        return f"other files: {[path for path in left if left[path] != expected.get(path)]}"
    again = live(activity, out)
    if again.code != 0 or "Traceback" in again.output:
        return f"run again: exit code {again.code}: {again.output[-1500:]}"
    if activity.files(out) != expected:
        return "run again: other results"
    return None


def try_all(world: World, root: Path, cases: int, seed: int, only: list[str]) -> tuple[Counter, list[str]]:
    """Numbers of cases, and what was wrong."""
    rng = random.Random(seed)
    everything = activities(world, root / "train" / "run" / "last_model.pt")
    tried, wrong = Counter(), []
    for what, activity in everything.items():
        whole = live(activity, root / what)
        expected = activity.files(root / what)
        if whole.code != 0 or not expected:
            raise SystemExit(f"{what}: exit code {whole.code} without a fault: {whole.output[-2000:]}")
        for name in FAULTS if not only or what in only else ():
            step = max(1, whole.num_calls // cases) if cases else 1
            for number in range(rng.randint(1, step), whole.num_calls + 1, step):
                tried[what] += 1
                out = root / f"{what}-{name}-{number}"
                fault = fault_of(activity, out, name, number, expected)
                if fault is None:
                    shutil.rmtree(out, ignore_errors=True)
                else:
                    wrong.append(f"{what}, {name} at call {number} of {whole.num_calls}: {fault}")
                    print(wrong[-1], flush=True)
        print(f"{what}: {whole.num_calls} calls, {tried[what]} cases; {len(wrong)} wrong so far", flush=True)
    return tried, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=0, help="of each command and fault; 0: every call (default)")
    parser.add_argument("--seed", type=int, default=0, help="of the calls chosen (default 0)")
    parser.add_argument("--only", nargs="*", help="some of the commands, as train test")
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if LIBRARY not in os.environ:
            library = f"{folder}/failing_calls.so"
            subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", library, SOURCE, "-ldl"], check=True)
            environment = {**os.environ, **ON_CPU, LIBRARY: library, "LD_PRELOAD": library}
            return subprocess.run([sys.executable, "-m", __spec__.name, *sys.argv[1:]], env=environment).returncode
        world = world_of_another_process(Path(folder) / "world")
        make_inputs(world)
        tried, wrong = try_all(world, Path(folder), args.cases, args.seed, args.only)
    counts = ", ".join(f"{what} {number}" for what, number in tried.items())
    print(f"failing calls: {tried.total()} cases ({counts}), {len(wrong)} wrong; {time.monotonic() - started:.0f} s")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
