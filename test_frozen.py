"""Evaluates a frozen image tower: nearest neighbours, and linear or attentive probes of many settings in one training.

Examples:
    python test_frozen.py --config configs/shapes/transf.yaml --out exp/demo/frozen
    python test_frozen.py --config my.yaml --weights last_model.pt --probes knn,linear --epochs 2 --out exp/frozen
"""

import argparse
import sys

from utils.cli import (
    add_published_options,
    add_view_options,
    apply_published_options,
    check_counts,
    config_parser,
    run_command,
)
from utils.config import check_config
from utils.errors import UserError
from utils.files import check_is_file, check_writable

KINDS = ("knn", "linear", "attentive")
FILES = ("data.train_list", "data.train_root", "data.val_list", "data.val_root", "data.label_list")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument("--weights", metavar="FILE", help="a video checkpoint (default: CLIP's tower as it comes)")
    parser.add_argument("--probes", default="knn,linear", metavar="A,B", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="length of the probes' training")
    parser.add_argument(
        "--lrs", default="5e-3,3e-3,1e-3,3e-4,1e-4", metavar="A,B", help="learning rates, each with each weight decay"
    )
    parser.add_argument("--weight_decays", default="0.01,0.1,0.4,0.8", metavar="A,B", help="of the probes' AdamW")
    parser.add_argument("--neighbours", type=int, default=20, metavar="K", help="of knn (default 20)")
    add_view_options(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results")
    add_published_options(parser)
    return parser.parse_intermixed_args(arguments)


def numbers(text: str, option: str) -> list[float]:
    """The numbers of an option, at least one, none below 0."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{option} {text}: must be numbers with commas between them, as 1e-3,1e-4") from error
    if not all(0 <= number < float("inf") for number in found):
        raise UserError(f"{option} {text}: must be 0 or more")
    return found


def main(args: argparse.Namespace) -> None:
    warnings = apply_published_options(args)
    args.kinds = args.probes.split(",")
    strange = [kind for kind in args.kinds if kind not in KINDS]
    if strange or len(set(args.kinds)) < len(args.kinds):
        raise UserError(f"--probes {args.probes}: must be some of {', '.join(KINDS)}, each once")
    args.rates = numbers(args.lrs, "--lrs")
    args.decays = numbers(args.weight_decays, "--weight_decays")
    check_counts(args, "epochs", "neighbours", "test_clips")
    check_config(args.config, args.overrides, FILES)
    check_writable(args.out, "--out", is_folder=True)
    check_is_file(args.weights, "checkpoint file")
    from engine.frozen import test_frozen  # after the checks: --help and a typo answer at once

    test_frozen(args, warnings)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
