"""Write embeddings of videos as arrays, for temporal detectors, retrieval or probes.

A video becomes OUT/NAME.npy (or NAME.h5 with `features`), float32:

    --level window   (W, D): one row for each window, `--window` seconds long and `--stride` seconds apart (default)
    --level frame    (W, T, D): the frames of each window, before the temporal head
    --level video    (1, D): one clip over the whole video

Beside it NAME.json holds start and end of each window in seconds, the stride, and the windows per second, as `fps`.
Rows are the embeddings behind predict.py's probabilities. OUT/report.csv has a line a video: path, status (written,
present, failed), num_rows, reason. Interrupted, the same command continues. Several machines share OUT by --shard; then
--merge writes the report.

Examples:
  python -m tools.extract_features my_videos features --weights WEIGHTS
  python -m tools.extract_features my_videos features --config CONFIG --window 1 --stride 0.5 --workers 4
"""

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from inference.video_inputs import expand_inputs, is_live
from utils.cli import EXIT_USER_ERROR, check_counts, config_parser, run_command
from utils.config import check_config
from utils.csv_files import read_csv, write_csv
from utils.errors import UserError
from utils.files import check_is_file, check_writable
from utils.work_shards import (
    FOLDER,
    add_shard_options,
    check_complete,
    chosen_shard,
    print_next_step,
    report_file,
    shard_files,
)

LEVELS = ("window", "frame", "video")
COLUMNS = ("path", "status", "num_rows", "reason")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    operands = (
        ("videos", "a folder of videos or of folders of frames, or one video"),
        ("out", "the folder of the arrays"),
    )
    parser = config_parser(__doc__, required=False, operands=operands)
    parser.add_argument("--weights", metavar="FILE", help="checkpoint (default: plain CLIP of the config)")
    parser.add_argument("--format", choices=("npy", "h5"), default="npy", help="default npy; h5 needs h5py")
    parser.add_argument("--level", choices=LEVELS, default="window", help="what a row is (default window)")
    parser.add_argument("--window", type=float, default=1.0, metavar="S", help="seconds of a window (default 1)")
    parser.add_argument("--stride", type=float, metavar="S", help="seconds between windows (default: the window)")
    parser.add_argument("--fps", type=float, default=25.0, help="frames a second of folders of frames (default 25)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="videos read at a time (default 2)")
    add_shard_options(parser)
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> int:
    args.out = Path(args.out)
    check_arguments(args)
    targets = name_targets(args.videos, args.out)
    shard = chosen_shard(args)
    if args.merge:
        rows = merge_rows(list(targets), args.out)
    else:
        from engine.extract_features import extract_all  # after the checks: --help and a typo answer at once

        report_file(args.out, shard)  # refuses another number of shards than the folder's
        rows = extract_all(args, shard.of(list(targets)), targets)
    write_csv(report_file(args.out, shard), COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    if shard.is_all:
        shutil.rmtree(args.out / FOLDER, ignore_errors=True)
    counts = Counter(row["status"] for row in rows)
    done = len(rows) - counts["failed"]
    print(f"{args.out}: {done} of {len(rows)} videos, {counts['present']} of them from an earlier run")
    print_next_step(shard)
    return EXIT_USER_ERROR if counts["failed"] else 0


def merge_rows(sources: list[str], out: Path) -> list[dict]:
    """The rows of all shards, in the order of `sources`. Raises UserError where one lacks."""
    paths = shard_files(out / FOLDER, ".csv")
    rows = {row["path"]: row for path in paths for row in read_csv(path)}
    check_complete(sources, lambda i: sources[i] in rows, len(paths))
    return [rows[source] for source in sources]


def check_arguments(args: argparse.Namespace) -> None:
    """Raise a UserError for what cannot be; before the model is loaded."""
    if is_live(args.videos):
        raise UserError(f"{args.videos}: give a file or a folder; cameras and URLs have no end")
    if not Path(args.videos).exists():
        raise UserError(f"{args.videos}: no such video file or folder")
    for option in ("window", "stride", "fps"):
        value = getattr(args, option)
        if value is not None and not 0 < value <= 86400:
            raise UserError(f"--{option} {value:g}: must be above 0")
    check_counts(args, "workers")
    if not args.weights and not args.config:
        raise UserError("give --weights, or --config for plain CLIP")
    if args.format == "h5" and find_spec("h5py") is None:
        raise UserError("--format h5: h5py is not installed; run 'pip install h5py'")
    check_config(args.config, args.overrides, ())
    check_is_file(args.weights, "checkpoint file")
    check_writable(args.out, "OUT", is_folder=True)


def name_targets(videos: str, out: Path) -> dict[str, Path]:
    """The path, without suffix, that each video's array gets: its place below VIDEOS."""
    root = Path(videos) if Path(videos).is_dir() else Path(videos).parent
    targets: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for source in expand_inputs([videos]):
        relative = Path(source).relative_to(root)
        name = relative.name if Path(source).is_dir() else relative.stem
        target = out / relative.parent / (name or root.name)
        if target in owners:
            raise UserError(f"{source}: its array would have the name of that of {owners[target]}; rename one")
        owners[target] = source
        targets[source] = target
    return targets


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
