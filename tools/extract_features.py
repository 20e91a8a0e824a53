"""Write embeddings of videos as arrays, for temporal detectors, retrieval or probes.

A video becomes OUT/NAME.npy (or NAME.h5 with `features`), float32:

    --level window   (W, D): one row per window, `--window` seconds long and `--stride` seconds apart (default)
    --level frame    (W, T, D): the frames of each window, before the temporal head
    --level video    (1, D): one clip over the whole video

NAME.json beside it has start and end of each window in seconds, the stride, and the windows per second as `fps`.
The embeddings are those that predict.py classifies. OUT/report.csv has a line per video: path, status (written,
present, failed), num_rows, reason. The same command resumes an interrupted run. Several machines can share OUT with
--shard; then --merge writes the report.

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

from engine.work_shards import FOLDER, add_shard_options, chosen_shard, merged, print_next_step, report_file
from inference.video_inputs import expand_inputs, is_live
from utils.cli import EXIT_USER_ERROR, check_counts, config_parser, run_command
from utils.config import check_config
from utils.csv_files import read_csv, write_csv
from utils.errors import UserError
from utils.files import check_is_file, check_writable
from utils.interval import check_times

LEVELS = ("window", "frame", "video")
COLUMNS = ("path", "status", "num_rows", "reason")
AGAIN = "run this shard again"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    operands = (("videos", "folder of videos or of folders of frames, or a video"), ("out", "output folder"))
    parser = config_parser(__doc__, required=False, operands=operands)
    parser.add_argument("--weights", metavar="FILE", help="checkpoint (default: CLIP, as in the config)")
    parser.add_argument("--format", choices=("npy", "h5"), default="npy", help="default npy; h5 needs h5py")
    parser.add_argument("--level", choices=LEVELS, default="window", help="contents of a row (default window)")
    parser.add_argument(
        "--window", type=float, default=1.0, metavar="S", help="seconds of a window; 0: one clip per video (default 1)"
    )
    parser.add_argument("--stride", type=float, metavar="S", help="seconds between windows (default: same as --window)")
    parser.add_argument("--fps", type=float, default=25.0, help="frame rate of folders of frames (default 25)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="videos read in parallel (default 2)")
    add_shard_options(parser)
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> int:
    args.out = Path(args.out)
    check_arguments(args)
    targets = name_targets(args.videos, args.out)
    shard = chosen_shard(args)
    if args.merge:
        by_name = {source: source for source in targets}
        rows = merged(args.out, by_name, lambda path: {row["path"]: row for row in read_csv(path, COLUMNS, AGAIN)})
    else:
        from engine.extract_features import extract_all  # after the checks, so that --help and errors are fast

        report_file(args.out, shard)  # raises an error if the folder has another number of shards
        rows = extract_all(args, shard.of(list(targets)), targets)
    write_csv(report_file(args.out, shard), COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    if shard.is_all:
        shutil.rmtree(args.out / FOLDER, ignore_errors=True)
    counts = Counter(row["status"] for row in rows)
    done = len(rows) - counts["failed"]
    print(f"{args.out}: {done} of {len(rows)} videos, {counts['present']} of them from an earlier run")
    print_next_step(shard)
    if first := next((targets[row["path"]] for row in rows if row["status"] != "failed"), None):
        load = {"npy": f'numpy.load("{first}.npy")', "h5": f'h5py.File("{first}.h5")["features"]'}[args.format]
        print(f"next: {load}; the times of its rows are in {first}.json")
    return EXIT_USER_ERROR if counts["failed"] else 0


def check_arguments(args: argparse.Namespace) -> None:
    """Raise a UserError for invalid arguments, before the model is loaded."""
    if is_live(args.videos):
        raise UserError(f"{args.videos}: must be a file or a folder; cameras and URLs are not supported")
    if not Path(args.videos).exists():
        raise UserError(f"{args.videos}: no such video file or folder")
    check_times(args.window, args.stride, args.fps, prefix="--")
    check_counts(args, "workers")
    if not args.weights and not args.config:
        raise UserError("give --weights, or --config for CLIP without fine-tuning")
    if args.format == "h5" and find_spec("h5py") is None:
        raise UserError("--format h5: h5py is not installed; run 'pip install h5py'")
    check_config(args.config, args.overrides, ())
    check_is_file(args.weights, "checkpoint file")
    check_writable(args.out, "OUT", is_folder=True)


def name_targets(videos: str, out: Path) -> dict[str, Path]:
    """The path of each array without extension: that of the video relative to VIDEOS."""
    root = Path(videos) if Path(videos).is_dir() else Path(videos).parent
    targets: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for source in expand_inputs([videos]):
        relative = Path(source).relative_to(root)
        name = relative.name if Path(source).is_dir() else relative.stem
        target = out / relative.parent / (name or root.resolve().name)
        if target in owners:
            raise UserError(f"{source}: its array would have the same name as that of {owners[target]}; rename one")
        owners[target] = source
        targets[source] = target
    return targets


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
