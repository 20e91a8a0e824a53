"""Shared by extract_frames.py and pack_videos.py: options, shards, and one outcome for each video of a folder."""

import argparse
import contextlib
import csv
import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from tqdm import tqdm

from tools.workers import run_jobs
from utils.cli import DISK_REMEDIES, check_counts
from utils.csv_files import ODD_NAMES, read_csv, write_csv
from utils.errors import UserError
from utils.files import check_writable, machine_name
from utils.terminal import print_error_line
from utils.work_shards import (
    ALL,
    FOLDER,
    REPORT,
    Shard,
    add_shard_options,
    check_complete,
    print_next_step,
    report_file,
    shard_files,
)

# What a single odd file may raise; the others go on.
FILE_ERRORS = (OSError, ValueError, UserError)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that both programs take."""
    parser.add_argument(
        "--short_side", type=int, help="scale the short side down to this many pixels (default: as it is)"
    )
    parser.add_argument("--quality", type=int, default=90, help="JPEG quality, 1 to 95 (default: 90)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one for each CPU)")
    add_shard_options(parser)


def check_options(args: argparse.Namespace, source: Path) -> None:
    """Raise a UserError where one of `add_options`, the folder `source` or `args.out` cannot be used."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    check_counts(args, "workers", *([] if args.short_side is None else ["short_side"]))
    if not 1 <= args.quality <= 95:
        raise UserError(f"--quality {args.quality}: must be in 1..95")
    if args.out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{args.out}: lies inside {source}; give a folder outside it")
    check_writable(args.out, "OUT", is_folder=True)


class Result(NamedTuple):
    """One line of the report. `status` is extracted or packed, present, short (made, but see `reason`) or failed."""

    path: str  # what was made (of a failed one: the source), relative
    status: str
    num_frames: int
    reason: str = ""

    @classmethod
    def made(cls, path: str, status: str, num_frames: int, note: str) -> "Result":
        """The line of what is there. `note`: what is odd about it, if anything."""
        return cls(path, "short" if note else status, num_frames, note)

    @classmethod
    def read(cls, row: Mapping[str, str]) -> "Result":
        return cls(row["path"], row["status"], int(row["num_frames"]), row["reason"])


def failed(name: str, error: Exception, source: Path) -> Result:
    """The line of the video `name`, the file `source`, that raised `error`.

    Where the disk of the results is at fault, the error is raised again: any other file would end the same way, and a
    tar file would be completed without this one. What cannot be read of a source is a UserError.
    """
    if isinstance(error, OSError) and error.errno in DISK_REMEDIES:
        raise error
    if isinstance(error, OSError):
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    else:
        reason = str(error).removeprefix(f"{source}: ")
    return Result(name, "failed", 0, " ".join(reason.split()))


def check_names(root: Path, targets: Mapping[str, str], other: str) -> None:
    """Raise a UserError where two sources would become one target. `other`: what the second one is, for the message."""
    counts = Counter(targets.values())
    for source, target in targets.items():
        if counts[target] > 1:
            raise UserError(f"{root / source}: another {other}; rename one")


@contextmanager
def only_run_in(out: Path, settings_file: str, settings: dict, shard: Shard = ALL) -> Iterator[None]:
    """Makes OUT ready for a first or a continued run with these settings, the only one in it while the block lasts.

    Several shards may be in it at a time, but each only once.

    Raises:
        UserError: in use by another run, it was made with other settings, or it holds something else.
    """
    path = out / settings_file
    if not path.exists():
        # What is hidden may be of another shard, which writes its settings first.
        if out.exists() and any(not entry.name.startswith(".") for entry in out.iterdir()) and not path.exists():
            raise UserError(f"{out}: is not empty and was not made by this script; give another folder")
        _write_once(path, json.dumps(settings, indent=2) + "\n")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("r+"))
        _lock(file, fcntl.LOCK_EX if shard.is_all else fcntl.LOCK_SH, out)
        if not shard.is_all:
            own = shard.file(out / FOLDER, ".lock")
            _lock(stack.enter_context(own.open("w")), fcntl.LOCK_EX, out)
        try:
            before = dict(json.load(file))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); give another folder") from error
        changed = [f"{key} {before.get(key)} -> {value}" for key, value in settings.items() if before.get(key) != value]
        if changed:
            raise UserError(
                f"{out}: was made with other settings ({', '.join(changed)}); give the same or another folder"
            )
        yield


def _write_once(path: Path, text: str) -> None:
    """Write a file, unless another shard has just done so: the one that each of them locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{machine_name()}-{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _lock(file: IO[str], kind: int, out: Path) -> None:
    """Falls with the process and its workers, however they end."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{out}: in use by another run; wait until it ends, or give another folder") from None
    except OSError as error:  # some network file systems have no locks
        print_error_line(f"warning: {out}: cannot be locked ({error.strerror}); start no second run in it")


def run_all(
    function: Callable[..., Result],
    jobs: Sequence[tuple[str, tuple]],
    num_workers: int,
    out: Path,
    shard: Shard,
    known: Iterable[Result],
) -> list[Result]:
    """`known` and the results of the jobs (`tools.workers.run_jobs`), sorted by path, with progress on show.

    The report has each line as soon as it is known, so that a run that is killed leaves those of what it did.
    """
    results, report = list(known), report_file(out, shard)
    write_report(report, results)
    with (
        report.open("a", newline="", encoding="utf-8", errors=ODD_NAMES) as file,
        tqdm(total=len(results) + len(jobs), initial=len(results), unit="video", disable=None) as progress,
    ):
        writer = csv.writer(file, lineterminator="\n")

        def done(result: Result) -> None:
            results.append(result)
            writer.writerow(result)
            file.flush()
            progress.update()

        run_jobs(function, jobs, num_workers, done)
    results.sort(key=lambda result: result.path)
    write_report(report, results)
    if shard.is_all:
        shutil.rmtree(out / FOLDER, ignore_errors=True)  # of shards that were begun before
    return results


def write_report(path: Path, results: Iterable[Result]) -> None:
    write_csv(path, Result._fields, results)


def earlier_notes(out: Path) -> dict[str, str]:
    """path -> reason, of the reports that earlier runs and shards left in `out`, if any."""
    paths = (out / REPORT, *(out / FOLDER).glob("*.csv"))
    return {path: line.reason for report in paths if report.exists() for path, line in _read_report(report).items()}


def _read_report(path: Path) -> dict[str, Result]:
    rows = [row for row in read_csv(path) if row["reason"] is not None]  # a last line may be cut off
    return {row["path"]: Result.read(row) for row in rows}


def merge_reports(out: Path, targets: dict[str, str]) -> list[Result]:
    """Writes OUT/report.csv from those of the shards, and removes these.

    Args:
        targets: source -> what is made of it, both as `Result.path`; all that the shards divided among them, in order.

    Raises:
        UserError: a shard has not run, or is not complete.
    """
    paths = shard_files(out / FOLDER, ".csv")
    results = {path: result for report in paths for path, result in _read_report(report).items()}
    sources = list(targets)
    check_complete(sources, lambda i: sources[i] in results or targets[sources[i]] in results, len(paths))
    merged = sorted(results.values(), key=lambda result: result.path)
    write_report(out / REPORT, merged)
    shutil.rmtree(out / FOLDER)
    return merged


def summarise(results: list[Result], made: str, source: Path, out: Path, shard: Shard) -> int:
    """Prints the counts and the first failures; returns the exit status. `made`: the status of what is new."""
    counts = Counter(result.status for result in results)
    print(", ".join(f"{counts[status]} {status}" for status in (made, "present", "short", "failed")))
    failures = [result for result in results if result.status == "failed"]
    for result in failures[:10]:
        line = f"failed: {source / result.path}: {result.reason}"
        print(line.encode("utf-8", "backslashreplace").decode())
    print(f"report: {report_file(out, shard)}")
    print_next_step(shard)
    return 1 if failures else 0
