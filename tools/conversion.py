"""Shared by extract_frames.py and pack_videos.py: options, and one outcome for each video of a folder."""

import argparse
import csv
import errno
import fcntl
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

from tqdm import tqdm

from tools.workers import run_jobs
from utils.errors import UserError
from utils.files import atomic_path, check_writable, write_text_atomic
from utils.terminal import print_error_line

REPORT_FILE = "report.csv"
REPORT_COLUMNS = ("path", "status", "num_frames", "reason")
# No file's own fault: the next one would end the same way.
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# What a single odd file may raise; the others go on.
FILE_ERRORS = (OSError, ValueError, UserError)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that both programs take."""
    parser.add_argument(
        "--short_side", type=int, help="scale the short side down to this many pixels (default: as it is)"
    )
    parser.add_argument("--quality", type=int, default=90, help="JPEG quality, 1 to 95 (default: 90)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one for each CPU)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def check_options(args: argparse.Namespace, source: Path) -> None:
    """Raise a UserError where one of `add_options`, the folder `source` or `args.out` cannot be used."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    if args.short_side is not None and args.short_side < 1:
        raise UserError(f"--short_side {args.short_side}: must be at least 1")
    if not 1 <= args.quality <= 95:
        raise UserError(f"--quality {args.quality}: must be in 1..95")
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: must be at least 1")
    if args.out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{args.out}: lies inside {source}; give a folder outside it")
    check_writable(args.out, "OUT", is_folder=True)


@dataclass(frozen=True)
class Result:
    """One line of the report. `status` is extracted or packed, present, short (made, but see `reason`) or failed."""

    path: str  # what was made (of a failed one: the source), relative
    status: str
    num_frames: int
    reason: str = ""


def failed(name: str, error: Exception, source: Path) -> Result:
    """The line of the video `name`, the file `source`, that raised `error`.

    Where any other file would do so, the error is raised again.
    """
    if isinstance(error, OSError) and error.errno in _FATAL:
        raise error
    if isinstance(error, OSError):
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    else:
        reason = str(error).removeprefix(f"{source}: ")
    return Result(name, "failed", 0, " ".join(reason.split()))


@contextmanager
def only_run_in(out: Path, settings_file: str, settings: dict) -> Iterator[None]:
    """Makes OUT ready for a first or a continued run with these settings, the only one in it while the block lasts.

    Raises:
        UserError: in use by another run, it was made with other settings, or it holds something else.
    """
    path = out / settings_file
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise UserError(f"{out}: is not empty and was not made by this script; give another folder")
        write_text_atomic(path, json.dumps(settings, indent=2) + "\n")
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # falls with the process and its workers, however they end
        except BlockingIOError:
            raise UserError(f"{out}: in use by another run; wait until it ends, or give another folder") from None
        except OSError as error:  # some network file systems have no locks
            print_error_line(f"warning: {out}: cannot be locked ({error.strerror}); start no second run in it")
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


def run_all(
    function: Callable[..., Result],
    jobs: Sequence[tuple[str, tuple]],
    num_workers: int,
    out: Path,
    known: Iterable[Result],
) -> list[Result]:
    """`known` and the results of the jobs (`tools.workers.run_jobs`), sorted by path, with progress on show.

    OUT/report.csv has each line as soon as it is known, so that a run that is killed leaves those of what it did.
    """
    results, report = list(known), out / REPORT_FILE
    _write_report(report, results)
    with (
        _open_report(report, "a") as file,
        tqdm(total=len(results) + len(jobs), initial=len(results), unit="video", disable=None) as progress,
    ):
        writer = csv.writer(file, lineterminator="\n")

        def done(result: Result) -> None:
            results.append(result)
            writer.writerow(asdict(result).values())
            file.flush()
            progress.update()

        run_jobs(function, jobs, num_workers, done)
    results.sort(key=lambda result: result.path)
    _write_report(report, results)
    return results


def _open_report(path: Path, mode: Literal["r", "w", "a"]) -> IO[str]:
    return path.open(mode, newline="", encoding="utf-8", errors="surrogateescape")  # file names need not be UTF-8


def _write_report(path: Path, results: Iterable[Result]) -> None:
    with atomic_path(path) as temporary, _open_report(temporary, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(REPORT_COLUMNS)
        writer.writerows(asdict(result).values() for result in results)


def read_report(out: Path) -> dict[str, Result]:
    """path -> line of the report that an earlier run left in `out`, if any."""
    path = out / REPORT_FILE
    if not path.exists():
        return {}
    with _open_report(path, "r") as file:
        rows = [row for row in csv.DictReader(file) if row["reason"] is not None]  # a last line may be cut off
    return {row["path"]: Result(row["path"], row["status"], int(row["num_frames"]), row["reason"]) for row in rows}


def summarise(results: list[Result], made: str, source: Path, out: Path) -> int:
    """Prints the counts and the first failures; returns the exit status. `made`: the status of what is new."""
    counts = Counter(result.status for result in results)
    print(", ".join(f"{counts[status]} {status}" for status in (made, "present", "short", "failed")))
    failures = [result for result in results if result.status == "failed"]
    for result in failures[:10]:
        line = f"failed: {source / result.path}: {result.reason}"
        print(line.encode("utf-8", "backslashreplace").decode())
    print(f"report: {out / REPORT_FILE}")
    return 1 if failures else 0
