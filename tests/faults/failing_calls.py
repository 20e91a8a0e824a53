"""Fails, shortens or kills at the n-th file-system call of what writes files, and looks at what is left.

    python -m tests.faults.failing_calls [--cases 0] [--seed 0] [--only train]

Training, filling the cache of frame embeddings, testing, making lists and packing videos; EIO, ENOSPC, EINTR, short
reads and writes, SIGKILL. Each time: one line or none and never a traceback, every file whole or absent, and the same
command run again gives what an undisturbed run gives. Needs gcc and Linux. `--cases` is the number for each pair of a
command and a fault, evenly spread; 0 (the default) takes every call, which runs for hours.
"""

import argparse
import ctypes
import errno
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import engine.test
import engine.train  # noqa: F401  (so that a fork starts with all imports done)
from datasets.frame_cache import _read
from modules.embed import load_table
from tests.commands.world import World, call
from tests.faults.injection import world_of_another_process
from tests.faults.live_runs import ON_CPU
from tools import make_lists, pack_videos
from utils.checkpoint import load_checkpoint
from utils.hashing import content_hash, file_hash

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


class Activity(NamedTuple):
    """`run` writes below a folder and returns an exit code; `files` maps each file there to a hash of its content.

    `is_final`: a file that is there is as it will be; checkpoints change on the way, and need only be whole.
    """

    run: Callable[[Path], int]
    files: Callable[[Path], dict[str, str]]
    is_final: bool = True


def activities(world: World, weights: Path) -> dict[str, Activity]:
    def train(out: Path, *overrides: str) -> int:
        return call("train", "--config", world.config, f"logging.run_dir={out}/run", "resume=auto", *overrides)

    def checkpoints(out: Path) -> dict[str, str]:
        found = {}
        for path in out.glob("run/*_model.pt"):
            state = load_checkpoint(path)
            found[path.name] = content_hash([state["model_state_dict"], state["progress"], state["epoch"]])
        return found

    def cache(out: Path) -> dict[str, str]:
        parts = [path for path in out.glob("cache/frames-*/*.npy") if path.with_suffix(".npz").exists()]
        return {str(path.relative_to(out)): content_hash([_read(path, check=True).rows.tobytes()]) for path in parts}

    def table(out: Path) -> dict[str, str]:
        found = {path.name: load_table(path) for path in out.glob("test/*.npz")}
        return {name: content_hash([list(content[0].paths), content[0].embeddings]) for name, content in found.items()}

    def bytes_of(pattern: str) -> Callable[[Path], dict[str, str]]:
        return lambda out: {path.name: file_hash(path) for path in out.glob(pattern) if not path.name.startswith(".")}

    cached = ("network.fix_video=true", "data.cached_draws=1")
    words = ("--config", world.config, "--weights", weights, "--out")
    return {
        "train": Activity(lambda out: train(out, "solver.save_every=3"), checkpoints, is_final=False),
        "cache": Activity(lambda out: train(out, *cached, f"logging.cache_dir={out}/cache"), cache),
        "test": Activity(lambda out: call("test", *words, out / "test"), table),
        "lists": Activity(
            lambda out: make_lists.main(["folders", "--root", f"{world.root}/classes", "--out", f"{out}/lists"]),
            bytes_of("lists/*"),
        ),
        "pack": Activity(
            lambda out: pack_videos.main([f"{world.root}/few", f"{out}/packed", "--workers", "1"]),
            bytes_of("packed/*.mkv"),
        ),
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


def try_all(world: World, root: Path, cases: int, seed: int, only: str | None) -> tuple[Counter, list[str]]:
    """Numbers of cases, and what was wrong."""
    rng = random.Random(seed)
    everything = activities(world, root / "train" / "run" / "last_model.pt")
    tried, wrong = Counter(), []
    for what, activity in everything.items():
        whole = live(activity, root / what)
        expected = activity.files(root / what)
        if whole.code != 0 or not expected:
            raise SystemExit(f"{what}: exit code {whole.code} without a fault: {whole.output[-2000:]}")
        for name in FAULTS if only in (None, what) else ():
            step = max(1, whole.num_calls // cases) if cases else 1
            for number in range(rng.randint(1, step), whole.num_calls + 1, step):
                tried[what] += 1
                out = root / f"{what}-{name}-{number}"
                fault = fault_of(activity, out, name, number, expected)
                if fault:
                    wrong.append(f"{what}, {name} at call {number} of {whole.num_calls}: {fault}")
                    print(wrong[-1], flush=True)
    return tried, wrong


def make_folders(world: World) -> None:
    """Frame folders by class, and a few videos."""
    (world.root / "few").mkdir()
    for path in sorted((world.root / "videos").iterdir())[:3]:
        (world.root / "few" / path.name).symlink_to(path)
    for path in (world.root / "frames").iterdir():
        folder = world.root / "classes" / path.name.split("_")[1]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=0, help="of each command and fault; 0: every call (default)")
    parser.add_argument("--seed", type=int, default=0, help="of the calls chosen (default 0)")
    parser.add_argument("--only", help="one of the commands")
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if LIBRARY not in os.environ:
            library = f"{folder}/failing_calls.so"
            subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", library, SOURCE, "-ldl"], check=True)
            environment = {**os.environ, **ON_CPU, LIBRARY: library, "LD_PRELOAD": library}
            return subprocess.run([sys.executable, "-m", __spec__.name, *sys.argv[1:]], env=environment).returncode
        world = world_of_another_process(Path(folder) / "world")
        make_folders(world)
        tried, wrong = try_all(world, Path(folder), args.cases, args.seed, args.only)
    counts = ", ".join(f"{what} {number}" for what, number in tried.items())
    print(f"failing calls: {tried.total()} cases ({counts}), {len(wrong)} wrong; {time.monotonic() - started:.0f} s")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
