"""Classifies videos (files, folders, cameras or streams) with a video checkpoint, or with CLIP without fine-tuning.

Examples:
    python predict.py my_video.mp4 --weights last_model.pt
    python predict.py my_videos --classes 'biking, cooking' --top 2 --csv results.csv
    python predict.py --camera 0 --window 2 --weights last_model.pt
"""

import argparse
import os
import re
import sys
from pathlib import Path

from engine.predict_inputs import add_prediction_options, check_inputs, check_prediction_options
from engine.work_shards import add_shard_options
from utils.cli import Parser, add_output_options, run_command
from utils.errors import UserError
from utils.files import check_writable
from utils.interval import check_times

OVERRIDE = re.compile(r"\w+(\.\w+)+=|seed=")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("videos", nargs="*", metavar="VIDEO", help="files, folders, 'patterns*', URLs; also key=value")
    parser.add_argument("--config", "-cfg", metavar="YAML", help="config file (default: that of the checkpoint)")
    parser.add_argument(
        "--weights", metavar="FILE", help="video checkpoint (default: CLIP without fine-tuning, mean of the frames)"
    )
    add_prediction_options(parser)
    parser.add_argument("--window", type=float, metavar="S", help="seconds of a window; 0: one clip per video")
    parser.add_argument("--stride", type=float, metavar="S", help="seconds between windows (default: half a window)")
    parser.add_argument("--camera", type=int, metavar="N", help="number of a camera")
    parser.add_argument("--seconds", type=float, metavar="S", help="cameras and streams: stop after this time")
    parser.add_argument("--json", metavar="FILE", help="write results as JSON; -: to stdout")
    parser.add_argument("--csv", metavar="FILE", help="write one line per window as CSV; -: to stdout")
    parser.add_argument("--pictures", metavar="DIR", help="save a film strip of each video, a timeline of long ones")
    add_shard_options(parser)
    add_output_options(parser)
    return parser.parse_intermixed_args(arguments)


def check_arguments(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Split the positional arguments into sources and config overrides."""
    # With any section name, so that a mistyped key is not reported as a missing video.
    # (Path.exists raises an error for long strings.)
    overrides = [text for text in args.videos if OVERRIDE.match(text) and not os.path.exists(text)]  # noqa: PTH110
    sources = [text for text in args.videos if text not in overrides]
    sources += [] if args.camera is None else [str(args.camera)]
    if not sources:
        raise UserError("no video; give files, folders, patterns or a URL, or --camera 0")
    if args.json == args.csv == "-":
        raise UserError("--json - and --csv -: only one can be written to stdout; write the other to a file")
    if args.json and args.csv and Path(args.json).resolve() == Path(args.csv).resolve():
        raise UserError(f"--json and --csv {args.csv}: must be different files")
    check_writable(args.pictures, "--pictures", is_folder=True)
    check_prediction_options(args)
    check_times(args.window, args.stride, args.fps, args.seconds, prefix="--")
    return sources, overrides


def main(args: argparse.Namespace) -> int:
    sources, overrides = check_arguments(args)
    sources = check_inputs(args, sources, overrides)
    from engine.predict import predict  # after the checks, so that --help and errors are fast

    return predict(args, sources, overrides)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
