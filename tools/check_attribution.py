"""Tests the relevance maps of a model by masking the most relevant patches.

In each clip a share of the patches is replaced with the clip's mean colour: those with the highest relevance for the
predicted class (`modules.attribution.relevance_maps`), random ones, and those with values closest to zero. If the
maps are meaningful, the probability drops most for the first and least for the last (Samek et al. 2017, arXiv
1509.06321). A map must also depend on the learned weights (Adebayo et al. 2018, arXiv 1810.03292): the last line is the
correlation with the maps of the same model after shuffling each parameter of its temporal head and the last block of
the image tower.

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
    parser.add_argument("--share", type=float, default=0.2, help="share of patches to mask (default 0.2)")
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> None:
    if not 0 < args.share < 1:
        raise UserError(f"--share {args.share:g}: must be between 0 and 1")
    check_config(args.config, args.overrides, ())
    check_is_file(args.weights, "checkpoint file")
    from engine.check_attribution import check_attribution  # after the checks, so that --help and errors are fast

    check_attribution(args)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
