"""Kills runs at random moments, resumes each, and compares the result with an undisturbed run.

    python -m tests.faults.injection [--kills 40] [--terms 40] [--seed 0]

Ends with a summary line; exit code 0 only where every loss, every validation score, all weights and the optimiser's
state are equal to the last bit. Each life of a run is a fork of this process, which has the imports behind it.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import datasets.build  # noqa: F401  (so that a life starts with all imports done)
import modules.build_training  # noqa: F401
from engine.keeper import BEST, LAST
from tests.commands.world import World, call, make_world, records
from tests.faults.live_runs import ON_CPU
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.hashing import content_hash
from utils.stop import EXIT_REQUEUE

OVERRIDES = ("resume=auto", "solver.epochs=3", "solver.save_every=1", "solver.keep_last=3")
CRASH_TIMEOUT = 120  # seconds in which any life must have ended


class Outcome(NamedTuple):
    """Results of a run: numbers of every step and validation, and hashes of its state."""

    figures: list[tuple]
    state: dict[str, str]


def outcome(run_dir: Path) -> Outcome:
    kept = ("kind", "step", "loss", "lr_new", "top1", "mean_class")
    state = load_checkpoint(run_dir / LAST)
    return Outcome(
        [tuple(record.get(name) for name in kept) for record in records(run_dir)],
        {name: content_hash(state[name]) for name in ("model_state_dict", "optimizer_state_dict", "progress", "epoch")}
        | {"best": content_hash(load_checkpoint(run_dir / BEST)["model_state_dict"])},
    )


class Tally:
    """Counts for the summary line."""

    def __init__(self) -> None:
        self.kills = self.kills_in_save = self.terms = self.requeued = self.runs = 0


def live(world: World, run_dir: Path, log: Path) -> int:
    """Start a life of the run in a fork; its process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
                code = call("train", "--config", world.config, f"logging.run_dir={run_dir}", *OVERRIDES)
        finally:
            os._exit(code)
    return pid


def wait_until(pid: int, moment: float, run_dir: Path, in_save: bool) -> int | None:
    """Wait for the moment (and then for a half-written checkpoint); the exit status where the life ends before."""
    deadline = time.monotonic() + CRASH_TIMEOUT
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= moment and (not in_save or any(run_dir.glob(".last_model.pt.*.tmp"))):
            return None
        time.sleep(0.0005 if in_save else 0.002)
    raise SystemExit("fault injection: a life neither ended nor moved on")


def disturb(world: World, run_dir: Path, number: int, rng: random.Random, seconds: float, tally: Tally) -> bool:
    """One life: signal `number` at a random moment within `seconds`; whether the run finished instead."""
    log = run_dir.parent / f"{run_dir.name}.log"
    in_save = number == signal.SIGKILL and rng.random() < 0.4
    moment = time.monotonic() + rng.uniform(0, seconds)
    pid = live(world, run_dir, log)
    code = wait_until(pid, moment, run_dir, in_save)
    if code is not None:
        if code != 0:
            raise SystemExit(f"fault injection: a life ended by itself with {code}:\n{log.read_text()[-2000:]}")
        return True
    os.kill(pid, number)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if number == signal.SIGKILL:
        tally.kills += 1
        tally.kills_in_save += any(run_dir.glob(".last_model.pt.*.tmp"))
    else:
        # -SIGTERM: the life had not yet come to its first line; 0: it was past its last step.
        if code not in (EXIT_REQUEUE, -signal.SIGTERM, 0):
            raise SystemExit(f"fault injection: SIGTERM gave exit code {code}:\n{log.read_text()[-2000:]}")
        tally.terms += 1
        tally.requeued += code == EXIT_REQUEUE
    if (run_dir / LAST).exists():
        load_checkpoint(run_dir / LAST)  # whole at every moment, or this raises
    return code == 0


def inject(world: World, root: Path, kills: int, terms: int, seed: int) -> Tally:
    """Disturb runs until there were that many signals of each kind, compare each finished run; raises SystemExit."""
    rng = random.Random(seed)
    started = time.monotonic()
    if wait_until(live(world, root / "undisturbed", root / "undisturbed.log"), float("inf"), root, False) != 0:
        raise SystemExit((root / "undisturbed.log").read_text()[-2000:])
    seconds = time.monotonic() - started
    expected = outcome(root / "undisturbed")
    assert len(expected.figures) > 20
    numbers = [signal.SIGKILL] * kills + [signal.SIGTERM] * terms
    rng.shuffle(numbers)
    tally = Tally()
    while numbers or tally.runs == 0:
        run_dir, is_finished = root / f"run{tally.runs}", False
        while not is_finished:
            before = tally.kills + tally.terms
            if numbers:
                is_finished = disturb(world, run_dir, numbers[-1], rng, seconds, tally)
                del numbers[len(numbers) - (tally.kills + tally.terms - before) :]
            else:
                is_finished = wait_until(live(world, run_dir, root / "last.log"), float("inf"), root, False) == 0
                if not is_finished:
                    raise SystemExit((root / "last.log").read_text()[-2000:])
        tally.runs += 1
        found = outcome(run_dir)
        if found != expected:
            wrong = [name for name in expected.state if found.state[name] != expected.state[name]]
            raise SystemExit(f"fault injection: {run_dir} differs from the undisturbed run: {wrong or 'figures'}")
    return tally


def world_of_another_process(root: Path) -> World:
    """A world made in a fork, so that this process never starts a thread of PyTorch's."""
    pid = os.fork()
    if pid == 0:
        make_world(root)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    return World(root, root / "frames.yaml", root / "videos.yaml", root / "clip.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40, help="SIGKILLs (default 40)")
    parser.add_argument("--terms", type=int, default=40, help="SIGTERMs (default 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default 0)")
    args = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # a fork has no threads but its own: none may be started before
        os.execve(sys.executable, [sys.executable, "-m", __spec__.name, *sys.argv[1:]], {**os.environ, **ON_CPU})
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            tally = inject(world_of_another_process(Path(folder)), Path(folder), args.kills, args.terms, args.seed)
        except UserError as error:
            raise SystemExit(f"fault injection: a checkpoint does not read: {error}") from error
    print(
        f"fault injection: {tally.kills} SIGKILL ({tally.kills_in_save} while a checkpoint was being written), "
        f"{tally.terms} SIGTERM ({tally.requeued} saved and left with {EXIT_REQUEUE}); {tally.runs} runs finished, "
        f"losses, scores, weights and optimiser equal to the undisturbed run's; {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
