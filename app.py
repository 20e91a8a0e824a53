"""Serves a page to try a model: drop a video or pick a sample, type class names, see bars, frames and a timeline."""

import argparse
import sys
from pathlib import Path

from utils.cli import run_story
from utils.errors import UserError

DEFAULT_CONFIG, DEFAULT_WEIGHTS = "configs/shapes/transf.yaml", "exp/demo/transf/last_model.pt"
LOCAL = "127.0.0.1"


def parse_arguments(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override")
    parser.add_argument("--config", metavar="YAML", help=f"the model's recipe (default: {DEFAULT_CONFIG})")
    parser.add_argument(
        "--weights", metavar="FILE", help="a video checkpoint (default: the demo's; with --config: plain CLIP)"
    )
    parser.add_argument("--classes", metavar="NAMES", help="'riding a bike, cooking' or a CSV (default: the config's)")
    parser.add_argument("--host", default=LOCAL, help=f"address to serve at (default {LOCAL}: this machine only)")
    parser.add_argument("--port", type=int, default=7860, help="default 7860")
    parser.add_argument("--max_megabytes", type=float, default=200, metavar="MB", help="of an upload (default 200)")
    parser.add_argument("--max_seconds", type=float, default=600, metavar="S", help="of a video (default 600)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_intermixed_args(arguments)


def check_arguments(args) -> None:
    """Puts the embedded default in where neither config nor weights are given."""
    if args.weights and not args.config:
        raise UserError("--weights: give the model's --config, too")
    if not args.config:
        args.config = str(Path(__file__).parent / DEFAULT_CONFIG)
        demo = Path(__file__).parent / DEFAULT_WEIGHTS
        args.weights = str(demo) if demo.is_file() else None
    for option in ("max_megabytes", "max_seconds"):
        if not getattr(args, option) > 0:
            raise UserError(f"--{option} {getattr(args, option):g}: must be above 0")
    if not 0 <= args.port < 65536:
        raise UserError(f"--port {args.port}: must be 0 to 65535")


def main(args) -> None:
    check_arguments(args)
    from engine.app import serve  # after the checks: --help and a typo answer at once

    serve(args)


if __name__ == "__main__":
    sys.exit(run_story(main, parse_arguments()))
