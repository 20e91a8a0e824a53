"""`predict.py` and `tools.ray_predict`: common options, and checks before PyTorch is imported."""

import argparse
import math
from pathlib import Path

from inference.video_inputs import expand_inputs, is_live, read_class_names
from utils.cli import check_counts
from utils.config import check_config
from utils.errors import UserError
from utils.files import check_is_file, check_writable


def add_prediction_options(parser: argparse.ArgumentParser) -> None:
    """Add `--classes`, `--top`, `--threshold`, `--fps` and `--isolate`."""
    parser.add_argument("--classes", metavar="NAMES", help="'biking, cooking' or a CSV (default: the checkpoint's)")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="classes per video and window (default 5)")
    parser.add_argument(
        "--threshold", type=float, default=0, metavar="P", help="videos and windows below this probability are unknown"
    )
    parser.add_argument("--fps", type=float, default=25, help="frame rate of folders of frames (default 25)")
    parser.add_argument(
        "--isolate",
        type=float,
        metavar="S",
        help="for untrusted files: decode each in a child process, limited to S seconds and 2 GB of memory",
    )


def check_prediction_options(args: argparse.Namespace) -> None:
    """Raise a UserError unless `--top` is positive, `--threshold` a probability and `--isolate` a time limit."""
    check_counts(args, "top")
    if not 0 <= args.threshold <= 1:
        raise UserError(f"--threshold {args.threshold:g}: must be a probability from 0 to 1")
    if args.isolate is not None and not 0 < args.isolate < math.inf:
        raise UserError(f"--isolate {args.isolate:g}: must be a number of seconds, finite and above 0")


def check_inputs(args: argparse.Namespace, sources: list[str], overrides: list[str]) -> list[str]:
    """The videos of `sources`, see `inference.video_inputs.expand_inputs`. Raises a UserError if a folder contains no
    videos, none are given, config, classes or weights are invalid, an output is not writable or an input, or a camera
    or URL is combined with --isolate."""
    check_config(args.config, overrides, () if args.classes else ("data.label_list",))
    videos = expand_inputs(sources)
    if weights := [video for video in videos if video.endswith((".pt", ".pth", ".safetensors"))]:
        raise UserError(f"{weights[0]}: is a checkpoint, not a video; write --weights {weights[0]}")
    if not any(is_live(video) or Path(video).exists() for video in videos):
        raise UserError(f"{videos[0]}: no such video file or folder of frames")
    for option, path in (("--json", args.json), ("--csv", args.csv)):
        if path and path != "-":
            check_writable(path, option, inputs=(*videos, args.weights, args.config, args.classes))
    if args.isolate and (live := [video for video in videos if is_live(video)]):
        raise UserError(f"--isolate: only files can be isolated, not {live[0]}; remove one of them")
    if args.classes is not None:
        read_class_names(args.classes)
    check_is_file(args.weights, "checkpoint file")
    return videos
