"""`--shard I/N` and `--merge`: one command on many machines, into one output folder.

Shard I takes every N-th of the items that all shards list alike, and writes what a report needs into a file of its own
in a folder beside the results. `--merge` reads these files, checks that nothing is missing, and writes the reports as
one run would have.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from utils.errors import UserError

FOLDER = ".shards"
"""In an output folder: what the shards write for the reports."""
REPORT = "report.csv"

Item = TypeVar("Item")


class Shard(NamedTuple):
    """Part `number`, from 1, of `count` parts of the work."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def is_all(self) -> bool:
        return self.count == 1

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Every `count`-th item, so that neighbours, which are often alike, are spread over the shards."""
        return list(items[self.number - 1 :: self.count])

    def file(self, folder: Path, suffix: str) -> Path:
        """The shard's own file, `I-of-N.SUFFIX`, in `folder`, which is made.

        Raises:
            UserError: the folder has files of another number of shards, whose items are other ones.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for path in _files_in(folder, suffix):
            count = int(path.stem.rpartition("-")[2])
            if count != self.count:
                raise UserError(
                    f"--shard {self}: {folder.parent} has results of {count} shards; continue with --shard "
                    f"I/{count}, or delete {folder}"
                )
        return folder / f"{self.number}-of-{self.count}{suffix}"


ALL = Shard(1, 1)


def add_shard_options(parser: argparse.ArgumentParser) -> None:
    """`--shard I/N` and `--merge`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--shard",
        metavar="I/N",
        help="part I of N, I from 1, of work on several machines (default: SLURM's array task, or all)",
    )
    group.add_argument("--merge", action="store_true", help="after all shards: write the reports of the whole")


def chosen_shard(args: argparse.Namespace) -> Shard:
    """The shard of `--shard`, else that of SLURM's array task, which is printed, else `ALL`, as with `--merge`.

    Raises:
        UserError: it is not a part of a whole, or the array's tasks are not evenly numbered or only one, which may be
            a task of a larger array that was submitted again.
    """
    if args.merge:
        return ALL
    if args.shard is not None:
        part, _, whole = args.shard.partition("/")
        if not (part.isdecimal() and whole.isdecimal() and 1 <= int(part) <= int(whole)):
            raise UserError(f"--shard {args.shard}: write I/N with I from 1 to N, as 1/4")
        return Shard(int(part), int(whole))
    task, count = (os.environ.get(f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "COUNT"))
    if task is None or count is None:
        return ALL
    if int(count) == 1:
        raise UserError(
            f"SLURM's array has only the task {task}, so its part of the whole is unknown; give --shard I/N, or "
            "--shard 1/1 for everything"
        )
    first, step = (int(os.environ.get(f"SLURM_ARRAY_TASK_{name}", x)) for name, x in (("MIN", 0), ("STEP", 1)))
    number, rest = divmod(int(task) - first, step)
    if rest or not 0 <= number < int(count):
        raise UserError(f"SLURM's array task {task} of {count} is not one of an even range; give --shard I/N")
    shard = Shard(number + 1, int(count))
    print(f"shard {shard}, from SLURM_ARRAY_TASK_ID; --shard 1/1 takes everything", file=sys.stderr)
    return shard


def report_file(out: Path, shard: Shard) -> Path:
    """Where a run, or a shard, writes its report."""
    return out / REPORT if shard.is_all else shard.file(out / FOLDER, ".csv")


def shard_files(folder: Path, suffix: str) -> list[Path]:
    """The files of all shards, in order. Raises UserError where one has not run."""
    files = {int(path.stem.partition("-")[0]): path for path in _files_in(folder, suffix)}
    if not files:
        raise UserError(f"--merge: {folder.parent} has no results of shards; run --shard 1/N to N/N first")
    count = int(files[min(files)].stem.rpartition("-")[2])
    missing = [number for number in range(1, count + 1) if number not in files]
    if missing:
        raise UserError(f"--merge: shard {missing[0]}/{count} has not run; run all shards first")
    return [files[number] for number in range(1, count + 1)]


def check_complete(names: Sequence[str], is_done: Callable[[int], bool], count: int) -> None:
    """Raise a UserError where an item of a shard has no result."""
    missing = [position for position in range(len(names)) if not is_done(position)]
    if missing:
        shard = Shard(missing[0] % count + 1, count)
        raise UserError(
            f"--merge: shard {shard} is not complete: {len(missing)} of {len(names)} items have no result, such as "
            f"{names[missing[0]]}; run it again first"
        )


def print_next_step(shard: Shard) -> None:
    """After a shard: what is left to do. To stderr, as stdout may be of another program."""
    if not shard.is_all:
        line = f"shard {shard} is done; after all {shard.count}, run the command with --merge in place of --shard"
        print(line, file=sys.stderr)


def _files_in(folder: Path, suffix: str) -> list[Path]:
    name = re.compile(r"\d+-of-\d+" + re.escape(suffix))
    return [path for path in folder.iterdir() if name.fullmatch(path.name)] if folder.is_dir() else []
