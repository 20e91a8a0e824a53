"""Writes a self-contained HTML page about a run, or about two runs that were tested on the same videos.

Examples:
    python report.py exp/demo/transf
    python report.py exp/demo/transf exp/demo/none --out compare.html
"""

import argparse
import sys

from utils.cli import Parser, run_command
from utils.files import check_writable


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder of train.py, or the results folder of a test")
    parser.add_argument("other", metavar="RUN_B", nargs="?", help="compare RUN with this one, video by video")
    parser.add_argument("--test", metavar="NAME", help="the test to show in detail (default: that with most views)")
    parser.add_argument("--out", metavar="FILE", help="default: RUN/report.html, for two runs RUN/compare_RUN_B.html")
    parser.add_argument("--no_frames", action="store_true", help="no film strips; needs neither videos nor weights")
    return parser.parse_args(arguments)


def main(args: argparse.Namespace) -> None:
    check_writable(args.out, "--out")
    from engine.report import report  # after the checks, so that --help and errors are fast

    report(args)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
