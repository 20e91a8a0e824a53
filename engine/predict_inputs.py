"""`predict.py`: checks of the inputs before PyTorch is imported."""

import argparse
from pathlib import Path

from inference.video_inputs import expand_inputs, is_live, read_class_names
from utils.config import check_config
from utils.errors import UserError
from utils.files import check_is_file, check_writable


def check_inputs(args: argparse.Namespace, sources: list[str], overrides: list[str]) -> list[str]:
    """The videos of `sources`, see `inference.video_inputs.expand_inputs`. Raises a UserError if a folder contains no
    videos, none are given, config, classes or weights are invalid, an output is not writable or an input, or a camera
    or URL is combined with --isolate."""
    check_config(args.config, overrides, () if args.classes else ("data.label_list",))
    videos = expand_inputs(sources)
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
