"""Tests a video checkpoint on data sets that it was not trained on: all classes, half of the classes, several splits.

Examples:
    python test_zeroshot.py --config configs/ucf101/ucf_zero_shot.yaml --weights last_model.pt
    python test_zeroshot.py --config configs/ucf101/ucf_zero_shot.yaml --weights last_model.pt --lists a.txt,b.txt
    python test_zeroshot.py --config configs/ucf101/ucf_zero_shot.yaml --reuse embeddings.npz
"""

import argparse
import sys
from pathlib import Path

from utils.cli import (
    Parser,
    add_output_options,
    add_published_options,
    add_view_options,
    apply_published_options,
    check_counts,
    run_command,
)
from utils.config import TEST_FILES, check_config
from utils.errors import UserError
from utils.files import check_is_file, check_writable


def parse_arguments(arguments: list[str] | None = None):
    parser = Parser(__doc__)
    parser.add_argument(
        "--config", "-cfg", required=True, action="append", metavar="YAML", help="a data set; may be repeated"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override in every config")
    parser.add_argument("--weights", metavar="FILE", help="a checkpoint of train.py or a published one")
    parser.add_argument(
        "--lists", metavar="A,B,C", help="test splits in place of data.val_list; each video is embedded once"
    )
    parser.add_argument(
        "--reuse", action="append", metavar="TABLE", help="embeddings.npz of an earlier call, one for each --config"
    )
    parser.add_argument("--train_labels", metavar="CSV", help="classes of the training, to warn of those tested too")
    add_view_options(parser)
    parser.add_argument("--dense", action="store_true", help="clips from windows of 128 frames, as data.dense=true")
    parser.add_argument("--out", metavar="DIR", help="folder of the results (default: beside the weights or table)")
    add_published_options(parser)
    add_output_options(parser)
    return parser.parse_intermixed_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    if bool(args.weights) == bool(args.reuse):
        raise UserError("give --weights to embed the videos, or --reuse to score a table again: one of the two")
    if args.reuse and len(args.reuse) != len(args.config):
        raise UserError(f"--reuse: {len(args.reuse)} tables for {len(args.config)} configs; give one for each")
    if args.reuse and (args.test_clips, args.test_crops, args.dense) != (1, 1, False):
        raise UserError("--reuse: a table has its views; leave out --test_clips, --test_crops, --dense")
    check_counts(args, "test_clips")
    stems = [Path(path).stem for path in args.config]
    if len(set(stems)) < len(stems):
        raise UserError("--config: two of them have one file name, by which results are named; rename one")
    lists = split_lists(args.lists)
    if len(set(lists)) < len(lists):
        raise UserError("--lists: names one list twice")


def split_lists(text: str | None) -> list[str]:
    """The paths of --lists; [] where it is not given."""
    paths = [] if text is None else [path.strip() for path in text.split(",")]
    if not all(paths):
        raise UserError(f"--lists {text!r}: an empty path; separate paths by single commas")
    return paths


def main(args: argparse.Namespace) -> int:
    check_arguments(args)
    warnings = apply_published_options(args)
    for path in args.config:
        check_config(path, args.overrides, TEST_FILES[1:] if args.lists else TEST_FILES)
    for path in split_lists(args.lists):
        check_is_file(path, "file")
    check_writable(args.out, "--out", is_folder=True)
    check_is_file(args.weights, "checkpoint file")
    from engine.zeroshot import test_zeroshot  # after the checks: --help and a typo answer at once

    return test_zeroshot(args, split_lists(args.lists), warnings)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
