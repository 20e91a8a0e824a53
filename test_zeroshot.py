"""Tests a video checkpoint on data sets that it was not trained on: full classes, half classes and several splits.

Examples:
    python test_zeroshot.py --config configs/ucf101/ucf_zero_shot.yaml --weights last_model.pt
    python test_zeroshot.py --config configs/ucf101/ucf_zero_shot.yaml --weights last_model.pt --lists a.txt,b.txt
    python test_zeroshot.py --config configs/ucf101/ucf_zero_shot.yaml --reuse embeddings.npz
"""

import argparse
import sys
from pathlib import Path

from utils import cli
from utils.config import TEST_FILES, check_config
from utils.errors import UserError
from utils.files import check_is_file, check_writable


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--config", "-cfg", required=True, action="append", metavar="YAML", help="config of a data set; may be repeated"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override in every config")
    parser.add_argument("--weights", metavar="FILE", help="checkpoint of train.py, or a published one")
    parser.add_argument("--lists", metavar="A,B,C", help="test lists instead of data.val_list")
    parser.add_argument("--reuse", action="append", metavar="TABLE", help="a test's embeddings.npz, one per --config")
    parser.add_argument("--train_labels", metavar="CSV", help="training classes, to warn if they are tested")
    cli.add_view_options(parser)
    parser.add_argument("--out", metavar="DIR", help="output folder (default: beside the weights or the table)")
    cli.add_published_options(parser)
    cli.add_output_options(parser)
    return parser.parse_intermixed_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    if bool(args.weights) == bool(args.reuse):
        raise UserError("give either --weights to embed the videos, or --reuse to score a table again")
    if args.reuse and len(args.reuse) != len(args.config):
        raise UserError(f"--reuse: {len(args.reuse)} tables for {len(args.config)} configs; give one per config")
    if args.reuse and (args.test_clips, args.test_crops, args.dense) != (1, 1, False):
        raise UserError("--reuse: the views are those of the table; remove --test_clips, --test_crops and --dense")
    cli.check_counts(args, "test_clips")
    stems = [Path(path).stem for path in args.config]
    if len(set(stems)) < len(stems):
        raise UserError("--config: two files have the same name, which is used for the results; rename one")
    lists = split_lists(args.lists)
    if len(set(lists)) < len(lists):
        raise UserError("--lists: a list is given twice")


def split_lists(text: str | None) -> list[str]:
    """Parse --lists; [] if it is not given."""
    paths = [] if text is None else [path.strip() for path in text.split(",")]
    if not all(paths):
        raise UserError(f"--lists {text!r}: empty path; separate paths by single commas")
    return paths


def main(args: argparse.Namespace) -> int:
    check_arguments(args)
    warnings = cli.apply_published_options(args)
    for path in args.config:
        check_config(path, args.overrides, TEST_FILES[1:] if args.lists else TEST_FILES)
    for path in split_lists(args.lists):
        check_is_file(path, "file")
    check_writable(args.out, "--out", is_folder=True)
    check_is_file(args.weights, "checkpoint file")
    from engine.zeroshot import test_zeroshot  # after the checks, so that --help and errors are fast

    return test_zeroshot(args, split_lists(args.lists), warnings)


if __name__ == "__main__":
    sys.exit(cli.run_command(main, parse_arguments()))
