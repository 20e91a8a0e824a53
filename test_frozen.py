"""Evaluates a frozen image tower with nearest neighbours, and with linear, attentive or other probes.

Examples:
    python test_frozen.py --config configs/shapes/transf.yaml --out exp/demo/frozen
    python test_frozen.py --config my.yaml --weights last_model.pt --probes knn,linear --epochs 2 --out exp/frozen
"""

import argparse
import math
import sys

from utils import cli
from utils.config import check_config
from utils.config_fields import OneOf
from utils.errors import UserError
from utils.files import check_is_file, check_writable

KINDS = OneOf("modules.probes.PROBES", ("knn",)).choices()
FILES = ("data.train_list", "data.train_root", "data.val_list", "data.val_root", "data.label_list")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = cli.config_parser(__doc__)
    parser.add_argument("--weights", metavar="FILE", help="video checkpoint (default: CLIP without fine-tuning)")
    parser.add_argument("--probes", default="knn,linear", metavar="A,B", help=f"a selection of {', '.join(KINDS)}")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="training epochs (default 20)")
    parser.add_argument("--lrs", default="5e-3,3e-3,1e-3,3e-4,1e-4", metavar="A,B", help="learning rates")
    parser.add_argument("--weight_decays", default="0.01,0.1,0.4,0.8", metavar="A,B", help="weight decays of AdamW")
    parser.add_argument("--neighbours", type=int, default=20, metavar="K", help="neighbours of knn (default 20)")
    cli.add_view_options(parser, dense=False)
    parser.add_argument("--out", required=True, metavar="DIR", help="output folder")
    cli.add_published_options(parser)
    return parser.parse_intermixed_args(arguments)


def numbers(text: str, option: str) -> list[float]:
    """Parse the numbers of an option: at least one, all finite and at least 0."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} {text}: must be numbers separated by commas, such as 1e-3,1e-4") from error
    if not all(0 <= value < math.inf for value in values):
        raise UserError(f"{option} {text}: must be finite and at least 0")
    return values


def main(args: argparse.Namespace) -> None:
    warnings = cli.apply_published_options(args)
    args.kinds = args.probes.split(",")
    if not set(args.kinds) <= set(KINDS) or len(set(args.kinds)) < len(args.kinds):
        raise UserError(f"--probes {args.probes}: must be a selection of {', '.join(KINDS)} without repetitions")
    args.rates = numbers(args.lrs, "--lrs")
    args.decays = numbers(args.weight_decays, "--weight_decays")
    cli.check_counts(args, "epochs", "neighbours", "test_clips")
    check_config(args.config, args.overrides, FILES)
    check_writable(args.out, "--out", is_folder=True)
    check_is_file(args.weights, "checkpoint file")
    from engine.frozen import test_frozen  # after the checks, so that --help and errors are fast

    test_frozen(args, warnings)


if __name__ == "__main__":
    sys.exit(cli.run_command(main, parse_arguments()))
