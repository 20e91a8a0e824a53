"""`--shard I/N` and `--merge`: run one command on several machines, with a shared output folder.

Shard I processes every N-th item of the same list, and writes the data for the reports to its own file in a subfolder.
`--merge` reads these files, checks that they are complete, and writes the same reports as a single run.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from utils.errors import UserError

FOLDER = ".shards"
"""Subfolder of the output folder with the files of the shards."""
REPORT = "report.csv"

Item = TypeVar("Item")
Row = TypeVar("Row")


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
        """Every `count`-th item, so that neighbouring items, which are often similar, are spread over the shards."""
        return list(items[self.number - 1 :: self.count])

    def file(self, folder: Path, suffix: str) -> Path:
        """The file of this shard, `I-of-N.SUFFIX`, in `folder`, which is created. Raises a UserError if the folder has
        files of a different number of shards."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in _files_in(folder, suffix):
            count = int(path.stem.rpartition("-")[2])
            if count != self.count:
                raise UserError(
                    f"--shard {self}: {folder.parent} has results of {count} shards; continue with --shard I/{count}, "
                    f"or delete {folder}"
                )
        return folder / f"{self.number}-of-{self.count}{suffix}"


ALL = Shard(1, 1)


def add_shard_options(parser: argparse.ArgumentParser) -> None:
    """Add `--shard I/N` and `--merge`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--shard", metavar="I/N", help="only part I of N, from 1 (default: SLURM's array task, or all)")
    group.add_argument("--merge", action="store_true", help="after all shards: write the combined reports")


def chosen_shard(args: argparse.Namespace) -> Shard:
    """The shard of `--shard`, otherwise of SLURM's array task, which is printed; `ALL` without both or with `--merge`.
    Raises a UserError if the shard is invalid, or the tasks of the array are not evenly numbered, or there is only one,
    which may be a resubmitted task of a larger array."""
    if args.merge:
        return ALL
    if args.shard is not None:
        part, _, whole = args.shard.partition("/")
        if not (part.isdecimal() and whole.isdecimal() and 1 <= int(part) <= int(whole)):
            raise UserError(f"--shard {args.shard}: must be I/N with I from 1 to N, such as 1/4")
        return Shard(int(part), int(whole))
    task, count = os.environ.get("SLURM_ARRAY_TASK_ID"), os.environ.get("SLURM_ARRAY_TASK_COUNT")
    if task is None or count is None:
        return ALL
    first, step = os.environ.get("SLURM_ARRAY_TASK_MIN", "0"), os.environ.get("SLURM_ARRAY_TASK_STEP", "1")
    if not all(text.isdecimal() for text in (task, count, first, step)) or int(step) == 0:
        raise UserError(f"SLURM array task {task} of {count} (from {first} by {step}): not numbers; give --shard I/N")
    if int(count) == 1:
        raise UserError(
            f"SLURM's array has only the task {task}, so its share of the work is unknown; give --shard I/N, or "
            "--shard 1/1 for everything"
        )
    number, rest = divmod(int(task) - int(first), int(step))
    if rest or not 0 <= number < int(count):
        raise UserError(f"SLURM array task {task} of {count}: the array is not evenly numbered; give --shard I/N")
    shard = Shard(number + 1, int(count))
    print(f"shard {shard}, from SLURM_ARRAY_TASK_ID; use --shard 1/1 to process everything", file=sys.stderr)
    return shard


def report_file(out: Path, shard: Shard) -> Path:
    """The path of the report of a run or of a shard."""
    return out / REPORT if shard.is_all else shard.file(out / FOLDER, ".csv")


def shard_files(folder: Path, suffix: str) -> list[Path]:
    """The files of all shards, in order. Raises a UserError if one is missing."""
    files = {int(path.stem.partition("-")[0]): path for path in _files_in(folder, suffix)}
    if not files:
        raise UserError(f"--merge: {folder.parent} has no results of shards; run --shard 1/N to N/N first")
    count = int(files[min(files)].stem.rpartition("-")[2])
    missing = [number for number in range(1, count + 1) if number not in files]
    if missing:
        raise UserError(f"--merge: shard {missing[0]}/{count} has not run; run all shards first")
    return [files[number] for number in range(1, count + 1)]


def check_complete(names: Sequence[str], is_done: Callable[[int], bool], count: int) -> None:
    """Raise a UserError if an item of a shard has no result."""
    missing = [position for position in range(len(names)) if not is_done(position)]
    if missing:
        shard = Shard(missing[0] % count + 1, count)
        raise UserError(
            f"--merge: shard {shard} is not complete: {len(missing)} of {len(names)} items have no result, such as "
            f"{names[missing[0]]}; run it again"
        )


def merged(out: Path, items: Mapping[Any, str], read: Callable[[Path], Mapping[Any, Row]]) -> list[Row]:
    """The rows of all shards in the order of `items`, names by key. Raises a UserError if a shard or row is missing.
    `read`: the rows by key from the file of a shard."""
    files = shard_files(out / FOLDER, ".csv")
    rows = {key: row for file in files for key, row in read(file).items()}
    keys = list(items)
    check_complete(list(items.values()), lambda i: keys[i] in rows, len(files))
    return [rows[key] for key in keys]


def print_next_step(shard: Shard) -> None:
    """Print what to do after a shard, to stderr because stdout may be piped."""
    if not shard.is_all:
        line = f"shard {shard} is done; after all {shard.count} shards, run the command with --merge instead of --shard"
        print(line, file=sys.stderr)


def _files_in(folder: Path, suffix: str) -> list[Path]:
    name = re.compile(r"\d+-of-\d+" + re.escape(suffix))
    return [path for path in folder.iterdir() if name.fullmatch(path.name)] if folder.is_dir() else []
