"""Interpolates the weights of pretrained CLIP and a fine-tuned checkpoint (WiSE-FT), and scores each mixing weight.

Prints a table of scores and writes curve.json and curve.png; with --save, writes the checkpoint at one mixing weight.

Examples:
    python -m tools.interpolate --weights last_model.pt --zeroshot configs/shapes/zeroshot.yaml --alphas 0,0.5,1
    python -m tools.interpolate --weights last_model.pt --save 0.6 mixed.pt
"""

import argparse
import sys
from pathlib import Path

from utils.cli import config_parser, folder_beside, run_command
from utils.config import TEST_FILES, check_config
from utils.errors import UserError
from utils.files import check_is_file, check_writable

ALPHAS = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = config_parser(__doc__, required=False)
    parser.add_argument("--weights", required=True, metavar="FILE", help="the fine-tuned checkpoint")
    parser.add_argument(
        "--zeroshot",
        action="append",
        default=[],
        metavar="YAML",
        help="zero-shot config to evaluate as well; may be repeated",
    )
    parser.add_argument(
        "--alphas", metavar="A,B,C", help=f"mixing weights from 0 (pretrained) to 1 (fine-tuned) (default {ALPHAS})"
    )
    parser.add_argument(
        "--head",
        choices=("keep", "fade"),
        default="keep",
        help="temporal head: kept, or its outputs scaled by the mixing weight",
    )
    parser.add_argument("--save", nargs=2, metavar=("ALPHA", "FILE"), help="write the checkpoint at a mixing weight")
    parser.add_argument("--out", metavar="DIR", help="folder of the curve (default: one beside the weights)")
    return parser.parse_intermixed_args(arguments)


def read_alpha(text: str, option: str) -> float:
    """A mixing weight from 0 to 1. Raises a UserError that names the option."""
    try:
        alpha = float(text)
    except ValueError:
        alpha = -1
    if not 0 <= alpha <= 1:
        raise UserError(f"{option} {text}: must be a number from 0 (pretrained) to 1 (fine-tuned)")
    return alpha


def main(args: argparse.Namespace) -> None:
    alphas = sorted({read_alpha(text, "--alphas") for text in (args.alphas or ALPHAS).split(",")})
    if args.save and args.alphas is None and not args.zeroshot:
        alphas = []
    save_alpha = read_alpha(args.save[0], "--save") if args.save else 0.0
    if args.save:
        check_writable(args.save[1], "--save", inputs=(args.weights, args.config, *args.zeroshot))
    out = Path(args.out or folder_beside(args.weights, f"interpolate_{args.head}"))
    if alphas:
        check_writable(out, "--out", is_folder=True)
    for path in (args.config, *args.zeroshot):
        check_config(path, args.overrides, TEST_FILES)
    check_is_file(args.weights, "checkpoint file")
    from engine.mix_weights import interpolate  # after the checks, so that --help and errors are fast

    interpolate(args, alphas, save_alpha, out)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
