"""Checks how far relevance maps can be trusted: what happens when the most relevant places are painted over.

In each clip a share of the places is painted in the clip's mean colour: those with the highest relevance for the
predicted class (`modules.attribution.relevance_maps`), as many at random, and those with values nearest to zero. If the
maps show what the prediction relies on, its probability falls most for the first and least for the last (Samek et al.
2017, arXiv 1509.06321). A map must also depend on what the model has learned (Adebayo et al. 2018, arXiv 1810.03292):
the last line correlates the maps with those of the same model after shuffling the values of each parameter of its
temporal head and the tower's last block.

Examples:
    python -m tools.check_attribution my_videos --weights exp/my/best_model.pt
    python -m tools.check_attribution my_videos --weights exp/my/best_model.pt --share 0.1
"""

import argparse
import sys
from collections.abc import Sequence

from utils.cli import config_parser, run_command
from utils.config import check_config
from utils.errors import UserError
from utils.files import check_is_file


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    operands = (("videos", "a folder of videos, or one video"),)
    parser = config_parser(__doc__, required=False, operands=operands)
    parser.add_argument("--weights", required=True, help="checkpoint of train.py")
    parser.add_argument(
        "--share", type=float, default=0.2, help="share of the places that is painted over (default 0.2)"
    )
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> None:
    if not 0 < args.share < 1:
        raise UserError(f"--share {args.share:g}: must be between 0 and 1")
    check_config(args.config, args.overrides, ())
    check_is_file(args.weights, "checkpoint file")
    from engine.check_attribution import check_attribution  # after the checks: --help and a typo answer at once

    check_attribution(args)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
