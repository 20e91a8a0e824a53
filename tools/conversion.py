"""Shared by extract_frames.py and pack_videos.py: options, shards and reports."""

import argparse
import contextlib
import csv
import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from engine import work_shards
from engine.work_shards import ALL, FOLDER, REPORT, Shard, report_file
from tools.workers import Jobs, run_jobs
from utils.cli import DISK_REMEDIES, check_counts
from utils.cores import num_cores
from utils.csv_files import read_csv, write_csv
from utils.errors import UserError
from utils.files import check_writable, machine_name, named_errors, this_process
from utils.odd_names import ODD_NAMES, printable
from utils.progress import progress
from utils.terminal import print_error_line

WHOLE_LOCK = "all.lock"
"""Locked by a run without shards. Its owner is in the file, as in those of shards."""
# Errors about a single file; other files are still processed.
FILE_ERRORS = (OSError, ValueError, UserError)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that both programs have."""
    parser.add_argument(
        "--short_side", type=int, help="scale the short side down to this many pixels (default: no scaling)"
    )
    parser.add_argument("--quality", type=int, default=90, help="JPEG quality, 1 to 95 (default: 90)")
    parser.add_argument("--workers", type=int, default=num_cores(), help="processes (default: one per CPU core)")
    work_shards.add_shard_options(parser)


def check_options(args: argparse.Namespace, source: Path) -> None:
    """Raise a UserError if an option, the folder `source` or `args.out` is invalid."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    check_counts(args, "workers", "short_side")
    if not 1 <= args.quality <= 95:
        raise UserError(f"--quality {args.quality}: must be in 1..95")
    if args.out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{args.out}: is inside {source}; choose a folder outside it")
    check_writable(args.out, "OUT", is_folder=True)


class Result(NamedTuple):
    """One line of the report. `status`: extracted or packed, present, short (written, but see `reason`) or failed."""

    path: str  # relative path of the output, or of the source if it failed
    status: str
    num_frames: int
    reason: str = ""

    @classmethod
    def made(cls, path: str, status: str, num_frames: int, note: str) -> "Result":
        """The line of an existing output. `note`: anything unusual about it."""
        return cls(path, "short" if note else status, num_frames, note)

    @classmethod
    def read(cls, row: Mapping[str, str]) -> "Result":
        return cls(row["path"], row["status"], int(row["num_frames"]), row["reason"])


def failed(name: str, error: Exception, source: Path) -> Result:
    """The report line of the video `name` (file `source`), which raised `error`.

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
    """Raise a UserError if two sources have the same target. `other`: description of the second, for the message."""
    counts = Counter(targets.values())
    for source, target in targets.items():
        if counts[target] > 1:
            raise UserError(f"{root / source}: another {other}; rename one")


@contextmanager
def locked_output_folder(out: Path, settings_file: str, settings: dict, shard: Shard = ALL) -> Iterator[None]:
    """Lock the output folder for a new or resumed run with these settings, until the block ends.

    Several shards may use it at the same time, but each only once. Raises a UserError if the folder is in use by
    another run, was created with other settings, or contains other files.
    """
    path = out / settings_file
    if not path.exists():
        # Hidden files may be of another shard, which writes its settings first.
        if out.exists() and any(not entry.name.startswith(".") for entry in out.iterdir()) and not path.exists():
            raise UserError(f"{out}: is not empty and was not created by this tool; choose another folder")
        _write_once(path, json.dumps(settings, indent=2) + "\n")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("r+"))
        _lock(file, fcntl.LOCK_EX if shard.is_all else fcntl.LOCK_SH, out)
        own = out / FOLDER / WHOLE_LOCK if shard.is_all else shard.file(out / FOLDER, ".lock")
        own.parent.mkdir(exist_ok=True)
        owner = stack.enter_context(own.open("ab", buffering=0))  # closing it writes nothing, also after an error
        _lock(owner, fcntl.LOCK_EX, out)
        with named_errors(own):
            os.truncate(owner.fileno(), 0)  # owner.truncate does not repeat interrupted calls
            owner.write(this_process().encode())
        try:
            before = dict(json.load(file))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); choose another folder") from error
        changed = [f"{key} {before.get(key)} -> {value}" for key, value in settings.items() if before.get(key) != value]
        if changed:
            listed = ", ".join(changed)
            raise UserError(f"{out}: was created with other settings ({listed}); use those, or another folder")
        yield


def _write_once(path: Path, text: str) -> None:
    """Write a file, unless another shard has just done so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{machine_name()}-{os.getpid()}.tmp")
    try:
        with named_errors(path):
            temporary.write_text(text, encoding="utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _lock(file: IO[Any], kind: int, out: Path) -> None:
    """Lock the output folder; the lock is released when the process and its workers exit."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{out}: in use by {_owner(out)}; wait until it ends, or choose another folder") from None
    except OSError as error:  # some network file systems do not support locks
        print_error_line(f"warning: {out}: cannot be locked ({error.strerror}); do not start a second run in it")


def _owner(out: Path) -> str:
    """The process that locked the output folder first, from the locked files of shards or of a whole run."""
    for path in sorted((out / FOLDER).glob("*.lock")):
        # It may belong to another user, or be removed at the end of that run.
        with contextlib.suppress(FileNotFoundError, PermissionError), path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read() or "another run"
    return "another run"


def run_all(
    function: Callable[..., Result], jobs: Jobs, num_workers: int, out: Path, shard: Shard, known: Iterable[Result]
) -> list[Result]:
    """`known` and the results of the jobs (`tools.workers.run_jobs`), sorted by path, with a progress bar.

    Each line of the report is written at once, so that it is kept if the run is killed.
    """
    results = list(known)
    report = report_file(out, shard)
    write_report(report, results)
    with (
        report.open("a", newline="", encoding="utf-8", errors=ODD_NAMES) as file,
        progress(total=len(results) + len(jobs), initial=len(results), unit="video") as bar,
        named_errors(out),
    ):
        writer = csv.writer(file, lineterminator="\n")

        def done(result: Result) -> None:
            results.append(result)
            writer.writerow(result)
            file.flush()
            bar.update()

        run_jobs(function, jobs, num_workers, done)
    results.sort(key=lambda result: result.path)
    write_report(report, results)
    if shard.is_all:
        shutil.rmtree(out / FOLDER, ignore_errors=True)  # of earlier shards
    return results


def write_report(path: Path, results: Iterable[Result]) -> None:
    """Write the results as CSV, one line each."""
    write_csv(path, Result._fields, results)


def earlier_notes(out: Path) -> dict[str, str]:
    """path -> reason, from the reports of earlier runs and shards in `out`, if any."""
    paths = (out / REPORT, *(out / FOLDER).glob("*.csv"))
    return {path: line.reason for report in paths if report.exists() for path, line in _read_report(report).items()}


def _read_report(path: Path) -> dict[str, Result]:
    rows = read_csv(path, Result._fields, "remove it; what is finished is kept", numbers=("num_frames",))
    return {row["path"]: Result.read(row) for row in rows}


def merge_reports(out: Path, targets: dict[str, str]) -> list[Result]:
    """Combine the reports of the shards into OUT/report.csv, and remove them. `targets`: source -> output of all items
    in order, both as in `Result.path`. Raises a UserError if a shard is missing or incomplete."""
    paths = work_shards.shard_files(out / FOLDER, ".csv")
    results = {path: result for report in paths for path, result in _read_report(report).items()}
    sources = list(targets)
    work_shards.check_complete(sources, lambda i: sources[i] in results or targets[sources[i]] in results, len(paths))
    merged = sorted(results.values(), key=lambda result: result.path)
    write_report(out / REPORT, merged)
    shutil.rmtree(out / FOLDER)
    return merged


def summarise(results: list[Result], made: str, source: Path, out: Path, shard: Shard) -> int:
    """Print the counts and the first failures; returns the exit code. `made`: the status of new outputs."""
    counts = Counter(result.status for result in results)
    print(", ".join(f"{counts[status]} {status}" for status in (made, "present", "short", "failed")))
    failures = [result for result in results if result.status == "failed"]
    for result in failures[:10]:
        print(printable(f"failed: {source / result.path}: {result.reason}"))
    print(f"report: {report_file(out, shard)}")
    work_shards.print_next_step(shard)
    return 1 if failures else 0
