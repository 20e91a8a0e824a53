"""`predict.py`: checks of the inputs before PyTorch is imported."""

import argparse
from pathlib import Path

from inference.video_inputs import expand_inputs, is_live, read_class_names
from utils.config import check_config
from utils.errors import UserError
from utils.files import check_is_file


def check_inputs(args: argparse.Namespace, sources: list[str], overrides: list[str]) -> list[str]:
    """The videos of `sources`, see `inference.video_inputs.expand_inputs`. Raises a UserError if a folder contains no
    videos, none are given, config, classes or weights are invalid, or a camera or URL is combined with --isolate."""
    check_config(args.config, overrides, () if args.classes else ("data.label_list",))
    videos = expand_inputs(sources)
    if not any(is_live(video) or Path(video).exists() for video in videos):
        raise UserError(f"{videos[0]}: no such video file or folder of frames")
    if args.isolate and (live := [video for video in videos if is_live(video)]):
        raise UserError(f"--isolate: only files can be isolated, not {live[0]}; remove one of them")
    if args.classes is not None:
        read_class_names(args.classes)
    check_is_file(args.weights, "checkpoint file")
    return videos
