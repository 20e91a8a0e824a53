"""Predictions or features of very many videos, by Ray Data on the machines of a cluster.

VIDEOS is a folder of videos or of folders of frames, one video, a text file (.txt) with a path a line, or a folder or
URL of tar shards (tools.pack_videos --shards). Each actor of the cluster loads the model once, and writes the results
of `--batch` videos at a time as OUT/parts/0000000.parquet and so on, in the order of VIDEOS:

    default      a row for each window, with the columns of predict.py's CSV, and `error`
    --level L    video, start, end, `embedding` (float32 values of `shape`) as of tools.extract_features, and `error`

A video that cannot be read is one row with its error. Interrupted, the same command continues with the parts that are
missing. All machines see VIDEOS, OUT, the weights and this repository by the same paths.

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

from inference.video_inputs import expand_inputs, read_class_names
from utils.cli import check_counts, check_prediction_limits, config_parser, run_command
from utils.config import check_config
from utils.errors import UserError
from utils.files import check_is_file, check_writable
from utils.interval import check_times
from utils.project_paths import SHARD_INDEX, is_url

LEVELS = ("window", "frame", "video")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    operands = (
        ("videos", "a folder, a video, a .txt with a path a line, or a folder or URL of tar shards"),
        ("out", "the folder of the results"),
    )
    parser = config_parser(__doc__, required=False, operands=operands)
    parser.add_argument("--weights", metavar="FILE", help="checkpoint (default: plain CLIP, mean of frames)")
    parser.add_argument("--classes", metavar="NAMES", help="'biking, cooking' or a CSV (default: the checkpoint's)")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="classes of each window (default 5)")
    parser.add_argument("--threshold", type=float, default=0, metavar="P", help="below this probability: unknown")
    parser.add_argument("--csv", metavar="FILE", help="in the end: the CSV that predict.py --csv writes")
    parser.add_argument("--level", choices=LEVELS, help="embeddings of this kind in place of classes")
    parser.add_argument("--window", type=float, metavar="S", help="seconds of a window (default: with --level 1, else "
                        "one clip of videos up to 30 s, then 10); 0: one clip a video")  # fmt: skip
    parser.add_argument("--stride", type=float, metavar="S", help="seconds between windows (default: with --level the "
                        "window, else half of it)")  # fmt: skip
    parser.add_argument("--fps", type=float, default=25.0, help="frame rate of folders of frames (default 25)")
    parser.add_argument("--isolate", type=float, metavar="S", help="decode each video in a child process with limits, "
                        "and give it up after S seconds")  # fmt: skip
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="videos of a part (default 64)")
    parser.add_argument("--retry", action="store_true", help="write the parts that have errors again")
    parser.add_argument("--address", metavar="ADDRESS", help="of the Ray cluster, or auto (default: RAY_ADDRESS, else "
                        "one on this machine)")  # fmt: skip
    parser.add_argument("--actors", type=int, metavar="N", help="processes with a model (default: what fits)")
    parser.add_argument("--gpus", type=float, default=0, metavar="G", help="GPUs of an actor; 0.5: two share one "
                        "(default 0: on the CPU)")  # fmt: skip
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="CPUs of an actor, which reads so many "
                        "videos at a time (default 2)")  # fmt: skip
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> int:
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise UserError("Ray Data is not installed; run \"pip install 'ray[data]'\"")
    args.out = Path(args.out)
    check_arguments(args)
    if args.level:
        args.window = 0.0 if args.level == "video" else 1.0 if args.window is None else args.window
        args.stride = args.stride or args.window or None
    sources = list_videos(args.videos)
    from engine.ray_predict import predict_all  # after the checks, so that --help and errors are fast

    return predict_all(args, sources)


def check_arguments(args: argparse.Namespace) -> None:
    """Raise a UserError for what cannot be; before PyTorch is imported."""
    check_counts(args, "batch", "workers", "actors", "top")
    check_prediction_limits(args)
    if not 0 <= args.gpus < math.inf:
        raise UserError(f"--gpus {args.gpus:g}: must be 0 or more")
    if args.level and args.csv:
        raise UserError("--csv: is of predictions; leave out --level, or read OUT/parts")
    check_times(args.window, args.stride, args.fps, prefix="--")
    check_config(args.config, args.overrides, () if args.classes or args.level else ("data.label_list",))
    if args.classes is not None:
        read_class_names(args.classes)
    if args.weights:
        check_is_file(args.weights, "checkpoint file")
    check_writable(args.out, "OUT", is_folder=True)
    if args.csv:
        check_writable(args.csv, "--csv")


def list_videos(videos: str) -> list[str] | None:
    """The paths of VIDEOS; None for tar shards, whose index lists them."""
    if is_url(videos) or Path(videos, SHARD_INDEX).is_file():
        return None
    if not Path(videos).exists():
        raise UserError(f"{videos}: no such video, folder or list")
    if not videos.endswith(".txt") or Path(videos).is_dir():
        return expand_inputs([videos])
    try:
        lines = Path(videos).read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UserError(f"{videos}: cannot be read ({error.strerror})") from None
    found = [line for line in lines if line.strip()]
    if not found:
        raise UserError(f"{videos}: lists no videos")
    return found


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
