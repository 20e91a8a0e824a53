"""Tests a video checkpoint: embeds every video once, saves the table of embeddings, and scores it.

Examples:
    python test.py --weights exp/k400/ViT-B/32/f8/last_model.pt
    python test.py --weights exp/k400/ViT-B/32/f8/last_model.pt --test_crops 3 --test_clips 4
    python test.py --config configs/k400/k400_train_rgb_vitb-32-f8.yaml --weights published.pt
"""

import argparse
import sys

from utils import cli
from utils.config import TEST_FILES, check_config
from utils.errors import UserError
from utils.files import check_is_file, check_writable


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = cli.config_parser(__doc__, required=False)
    parser.add_argument("--weights", metavar="FILE", help="checkpoint of train.py, or published (default: plain CLIP)")
    cli.add_view_options(parser)
    parser.add_argument("--metric", choices=("top1", "map"), default="top1", help="map: also mean average precision")
    parser.add_argument("--confusion", action="store_true", help="write confusion.csv and confusion.png")
    parser.add_argument("--allow_missing", action="store_true", help="count unreadable videos as wrong, do not stop")
    parser.add_argument("--out", metavar="DIR", help="output folder (default: beside the weights)")
    cli.add_published_options(parser)
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> None:
    warnings = cli.apply_published_options(args)
    check_config(args.config, args.overrides, TEST_FILES)
    if args.allow_missing and args.metric == "map":
        raise UserError("--allow_missing and --metric map: mAP needs a prediction for every video; remove one of them")
    cli.check_counts(args, "test_clips")
    check_writable(args.out, "--out", is_folder=True)
    check_is_file(args.weights, "checkpoint file")
    if not args.weights and not args.config:
        raise UserError("give --weights (a checkpoint) or --config (of an image-text model)")
    from engine.test import test  # after the checks, so that --help and errors are fast

    test(args, warnings)


if __name__ == "__main__":
    sys.exit(cli.run_command(main, parse_arguments()))
