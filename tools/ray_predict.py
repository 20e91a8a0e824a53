"""Predictions or features of millions of videos with Ray Data on a cluster.

VIDEOS is a folder of videos or of folders of frames, a video, a text file (.txt) with one path per line, or a folder or
URL of tar shards (tools.pack_videos --shards). Each actor of the cluster loads the model once, and writes the results
of `--batch` videos at a time to OUT/parts/0000000.parquet and so on, in the order of VIDEOS:

    default      a row for each window, with the columns of predict.py's CSV, and `error`
    --level L    video, start, end, `embedding` (float32 values of `shape`) as in tools.extract_features, and `error`

An unreadable video has one row with its error. The same command resumes an interrupted run. VIDEOS, OUT, the weights
and this repository must have the same paths on all machines.

Examples:
  python -m tools.ray_predict my_videos predictions --weights WEIGHTS --csv predictions.csv
  python -m tools.ray_predict videos.txt features --weights WEIGHTS --level window --window 1 --gpus 1 --address auto
"""

import argparse
import math
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from datasets.lists import unreadable
from engine.predict_inputs import add_prediction_options, check_prediction_options
from inference.video_inputs import expand_inputs, read_class_names
from utils.cli import check_counts, config_parser, run_command
from utils.config import check_config
from utils.errors import UserError
from utils.files import check_is_file, check_writable
from utils.interval import check_times
from utils.odd_names import ODD_NAMES
from utils.project_paths import SHARD_INDEX, is_url

LEVELS = ("window", "frame", "video")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    operands = (
        ("videos", "a folder, a video, a .txt with one path per line, or a folder or URL of tar shards"),
        ("out", "folder of the results"),
    )
    parser = config_parser(__doc__, required=False, operands=operands)
    parser.add_argument("--weights", metavar="FILE", help="checkpoint (default: CLIP, mean of the frames)")
    add_prediction_options(parser)
    parser.add_argument("--csv", metavar="FILE", help="at the end, also write the CSV of predict.py --csv")
    parser.add_argument("--level", choices=LEVELS, help="write embeddings of this kind instead of classes")
    parser.add_argument(
        "--window",
        type=float,
        metavar="S",
        help="seconds of a window (default: 1 with --level, otherwise one clip up to 30 s, then 10); "
        "0: one clip per video",
    )
    parser.add_argument(
        "--stride",
        type=float,
        metavar="S",
        help="seconds between windows (default: the window with --level, otherwise half of it)",
    )
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="videos per part (default 64)")
    parser.add_argument("--retry", action="store_true", help="repeat the parts with errors")
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="of the Ray cluster, or auto (default: RAY_ADDRESS, otherwise a local cluster)",
    )
    parser.add_argument("--actors", type=int, metavar="N", help="processes with a model (default: as many as fit)")
    parser.add_argument(
        "--gpus", type=float, default=0, metavar="G", help="GPUs per actor; 0.5: two actors share one (default 0: CPU)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        metavar="N",
        help="CPUs per actor, and number of videos that it reads in parallel (default 2)",
    )
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> int:
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise UserError("Ray Data is not installed; run \"pip install 'ray[data]'\"")
    args.out = Path(args.out)
    check_arguments(args)
    if args.level == "video":
        args.window = 0.0
    elif args.level and args.window is None:
        args.window = 1.0
    if args.level:
        args.stride = args.stride or args.window or None
    sources = list_videos(args.videos)
    from engine.ray_predict import predict_all  # after the checks, so that --help and errors are fast

    return predict_all(args, sources)


def check_arguments(args: argparse.Namespace) -> None:
    """Raise a UserError for invalid arguments, before PyTorch is imported."""
    check_counts(args, "batch", "workers", "actors")
    check_prediction_options(args)
    if not 0 <= args.gpus < math.inf:
        raise UserError(f"--gpus {args.gpus:g}: must be 0 or more")
    if args.level and args.csv:
        raise UserError("--csv: contains predictions; remove --level, or read OUT/parts")
    check_times(args.window, args.stride, args.fps, prefix="--")
    check_config(args.config, args.overrides, () if args.classes or args.level else ("data.label_list",))
    if args.classes is not None:
        read_class_names(args.classes)
    if args.weights:
        check_is_file(args.weights, "checkpoint file")
    check_writable(args.out, "OUT", is_folder=True)
    if args.csv:
        check_writable(args.csv, "--csv", inputs=(args.videos, args.weights, args.config, args.classes))


def list_videos(videos: str) -> list[str] | None:
    """The paths of VIDEOS; None for tar shards, whose index lists them."""
    if is_url(videos) or Path(videos, SHARD_INDEX).is_file():
        return None
    if not Path(videos).exists():
        raise UserError(f"{videos}: no such video, folder or list")
    if not videos.endswith(".txt") or Path(videos).is_dir():
        return expand_inputs([videos])
    try:
        lines = Path(videos).read_text(encoding="utf-8-sig", errors=ODD_NAMES).splitlines()
    except OSError as error:
        raise unreadable(videos, error) from error
    paths = [line for line in lines if line.strip()]
    if not paths:
        raise UserError(f"{videos}: contains no paths of videos")
    return paths


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
