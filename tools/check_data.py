"""Opens every file listed in the annotation lists of a config, and writes a report and cleaned lists.

Every frame of a video is decoded. For a frame folder it checks that the number of frames equals that in the list, and
that the first, middle and last frame can be decoded and have the same size; likewise for packed clips, and if
data.decoder is not pyav. Files in DIR (default: data_check_CONFIG beside the config):

    report.csv         list, line, path, status (good | bad), number of frames, reason
    train_clean.txt    the lists without bad lines
    val_clean.txt

With data.sets each list of a set is checked, and the names begin with that of the set: k400_train_clean.txt.

An interrupted check resumes where it stopped, given the same lists and DIR. Several machines share DIR by --shard; then
--merge writes the files. Exit code 0: all good; 1: some are bad, or a worker process was killed; 2: an error in the
config or a list; 130: interrupted.

Examples:
    python -m tools.check_data --config my.yaml
    python -m tools.check_data --config my.yaml --out data_check --workers 8 data.modality=video
"""

import argparse
import csv
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from datasets.build import count_unknown_frames, read_entries
from datasets.clip_shards import clip_root
from datasets.entries import Entries, ListEntry
from datasets.frame_source import FrameSource
from datasets.list_checks import list_warnings
from datasets.readers import open_source
from datasets.sets import Side, class_names, configs_of_sets, root_and_list, with_sets
from engine.work_shards import FOLDER, REPORT, add_shard_options, chosen_shard, merged, print_next_step
from tools.workers import run_jobs
from utils.cli import EXIT_INTERRUPTED, Parser, check_counts, run_command
from utils.config import load_config
from utils.cores import num_cores
from utils.csv_files import write_csv
from utils.errors import UserError
from utils.files import atomic_path
from utils.hashing import file_hash
from utils.progress import progress
from utils.schema import Config, DataConfig
from utils.terminal import print_error_line

COLUMNS = ("list", "line", "path", "status", "num_frames", "reason")
SIDES: tuple[Side, Side] = ("train", "val")
JOURNAL = ".checked.csv"  # rows in order of completion; replaced by report.csv at the end


class ListJob(NamedTuple):
    """One annotation list: `name` is train or val, after the name of its set with data.sets, such as k400_train."""

    name: str
    path: str
    root: str
    entries: Entries


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--config", "-cfg", required=True, metavar="YAML", help="config with the lists to check")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override")
    parser.add_argument("--out", metavar="DIR", help="folder of the report and the cleaned lists")
    parser.add_argument("--workers", type=int, default=num_cores(), help="processes (default: one per core)")
    add_shard_options(parser)
    return parser.parse_intermixed_args(arguments)


def check_entry(data: DataConfig, name: str, list_path: str, root: str, entry: ListEntry) -> dict:
    """One row of the report."""
    row = {"list": name, "line": entry.line, "path": entry.path, "status": "good", "num_frames": "", "reason": ""}
    try:
        with open_source(data, clip_root(data, root), entry, list_path) as source:
            row["num_frames"] = source.num_frames
            source.check_frames()
        if data.modality == "RGB":
            assert entry.num_frames is not None
            folder = Path(root) / entry.path
            excess = data.image_tmpl.format(entry.num_frames + data.index_bias)
            if (folder / excess).exists():
                raise UserError(f"{folder}: contains {excess}, but the list gives {entry.num_frames} frames")
            for number in range(entry.num_frames):
                path = folder / data.image_tmpl.format(number + data.index_bias)
                if not path.is_file() or path.stat().st_size == 0:
                    raise UserError(f"{path}: missing or empty, although the list gives {entry.num_frames} frames")
    except UserError as error:
        row |= {"status": "bad", "reason": str(error)}
    return row


def read_journal(path: Path, stamp: str) -> dict[tuple[str, int], dict]:
    """Rows of an interrupted check of the same lists, by (list, line). Raises a UserError if they are corrupted."""
    if not path.exists():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if not lines or lines[0].strip() != stamp:
            return {}
        whole = [line for line in lines[1:] if line.endswith("\n")]  # a kill may have cut the last one
        rows = list(csv.DictReader(whole, COLUMNS))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError(f"a line has another number of columns than {len(COLUMNS)}")
        return {(row["list"], int(row["line"])): row for row in rows}
    except (csv.Error, ValueError) as error:
        raise UserError(f"{path}: corrupted ({error}); remove it to check the videos again") from error


Task = tuple[ListJob, ListEntry]


def check_all(tasks: Sequence[Task], data: DataConfig, journal: Path, stamp: str, workers: int) -> list[dict]:
    """The rows of all tasks, in order; those in the journal are not checked again."""
    done = read_journal(journal, stamp)
    work = [
        (f"{job.path}:{entry.line}: {entry.path}", (data, job.name, job.path, job.root, entry))
        for job, entry in tasks
        if (job.name, entry.line) not in done
    ]
    if not done:
        journal.write_text(stamp + "\n", encoding="utf-8")
    with (
        journal.open("a", newline="", encoding="utf-8") as file,
        progress(total=len(tasks), initial=len(done), unit="video", desc="check") as bar,
    ):
        writer = csv.DictWriter(file, COLUMNS)

        def write(row: dict) -> None:
            row["reason"] = " ".join(row["reason"].split())  # without line ends, so that each row is one line
            writer.writerow(row)
            file.flush()
            done[row["list"], int(row["line"])] = row
            bar.update()

        run_jobs(check_entry, work, workers, write)
    return [done[job.name, entry.line] for job, entry in tasks]


def write_reports(jobs: Sequence[ListJob], rows: Sequence[dict], out: Path) -> None:
    """Write report.csv and the cleaned lists, whose lines are copied byte for byte; remove the journals."""
    for job in jobs:
        bad = {int(row["line"]) for row in rows if row["list"] == job.name and row["status"] == "bad"}
        lines = Path(job.path).read_bytes().split(b"\n")
        with atomic_path(out / f"{job.name}_clean.txt") as temporary:
            temporary.write_bytes(b"\n".join(line for number, line in enumerate(lines, 1) if number not in bad))
    write_csv(out / REPORT, COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    (out / JOURNAL).unlink(missing_ok=True)
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def print_faults(jobs: Sequence[ListJob], rows: Sequence[dict], out: Path | None) -> int:
    """Print the number of bad entries of each list and the first of them; returns the exit code. `out`: folder of the
    cleaned lists; None: they are not written yet."""
    for job in jobs:
        of_list = [row for row in rows if row["list"] == job.name]
        reasons = [row["reason"] for row in of_list if row["status"] == "bad"]
        clean = f"; the list without them: {out / f'{job.name}_clean.txt'}" if out and reasons else ""
        print(f"{job.path}: {len(of_list)} entries, {len(reasons)} bad{clean}")
        for reason in reasons[:10]:
            print(f"  {reason}")
        if len(reasons) > 10:
            print(f"  and {len(reasons) - 10} more")
    return int(any(row["status"] == "bad" for row in rows))


def read_lists(cfg: Config) -> list[ListJob]:
    """Read the lists of a config, and print warnings about them."""
    jobs = []
    names_of_sets = [f"{data_set.name}_" for data_set in cfg.data.sets] or [""]
    for name_of_set, of_set in zip(names_of_sets, configs_of_sets(with_sets(cfg)), strict=True):
        data, of_sides = of_set.data, []
        for side in SIDES:
            root, path = root_and_list(data, side)
            entries = count_unknown_frames(data, read_entries(of_set, path), root, path)
            of_sides.append(ListJob(f"{name_of_set}{side}", path, root, entries))
        train, val = of_sides
        for warning in list_warnings(data, train.entries, val.entries, class_names(data)):
            print_error_line(f"warning: {warning}")
        jobs += of_sides
    return jobs


def main(args: argparse.Namespace) -> int:
    check_counts(args, "workers")
    cfg, warnings = load_config(args.config, args.overrides, "train")
    for warning in warnings:
        print_error_line(f"warning: {warning}")
    if cfg.data.modality == "video":
        FrameSource.named(cfg.data.decoder).check_installed()
    shard = chosen_shard(args)
    jobs = read_lists(cfg)
    tasks = [(job, entry) for job in jobs for entry in job.entries]
    out = Path(args.out or Path(args.config).parent / f"data_check_{Path(args.config).stem}")
    lists = " ".join(f"{file_hash(job.path)} {job.root}" for job in jobs)
    data = cfg.data
    stamp = f"{lists} {data.modality} {data.image_tmpl} {data.index_bias} {data.decoder}"
    if data.list_times:
        stamp += f" times {data.frame_rate}"
    journal = out / JOURNAL
    try:
        out.mkdir(parents=True, exist_ok=True)
        if args.merge:
            places = {(job.name, entry.line): entry.path for job, entry in tasks}
            rows = merged(out, places, lambda path: read_journal(path, stamp))
        else:
            journal = journal if shard.is_all else shard.file(out / FOLDER, ".csv")
            rows = check_all(shard.of(tasks), data, journal, stamp, args.workers)
        if shard.is_all:
            write_reports(jobs, rows, out)
    except KeyboardInterrupt:
        print(f"interrupted; run the same command to continue ({journal})", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        raise UserError(f"--out: {out} cannot be written ({error.strerror}); choose another folder") from error
    code = print_faults(jobs, rows, out if shard.is_all else None)
    print_next_step(shard)
    if shard.is_all:
        print(f"the report is {out / REPORT}")
    return code


if __name__ == "__main__":
    torch.set_num_threads(1)  # inherited by the workers, one per core
    sys.exit(run_command(main, parse_arguments()))
