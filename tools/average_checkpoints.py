"""Averages the weights of several checkpoints of the same model, from one or more runs.

Examples:
    python -m tools.average_checkpoints run/last_model.pt run/last_model.1.pt --out averaged.pt
"""

import argparse
import sys

from utils.cli import Parser, run_command
from utils.files import check_is_file, check_writable


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="two or more checkpoints of one model")
    parser.add_argument("--out", required=True, metavar="FILE", help="the checkpoint to write")
    return parser.parse_args(arguments)


def main(args: argparse.Namespace) -> None:
    check_writable(args.out, "--out", inputs=args.checkpoints)
    for path in args.checkpoints:
        check_is_file(path, "checkpoint file")
    from engine.mix_weights import average  # after the checks, so that --help and errors are fast

    average(args.checkpoints, args.out)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
