"""Serves a web page to try a model: upload a video, type class names, see probabilities, frames and a timeline.

Examples:
    python app.py
    python app.py --weights last_model.pt --classes 'biking, cooking' --port 8000
"""

import argparse
import re
import socket
import sys
from pathlib import Path

from utils.cli import Parser, run_command
from utils.config import check_config
from utils.errors import UserError
from utils.files import check_is_file

DEFAULT_CONFIG = "configs/shapes/transf.yaml"
DEFAULT_WEIGHTS = "exp/demo/transf/last_model.pt"
LOCAL = "127.0.0.1"
ALLOWED_HOST = re.compile(r"\*|(\*\.)?[\w.-]+|[\da-fA-F]*:[\da-fA-F]*:[\da-fA-F:.]*")  # the last: of IPv6


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override")
    parser.add_argument("--config", "-cfg", metavar="YAML", help="config file (default: that of the checkpoint)")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="video checkpoint (default: that of the demo, or with --config CLIP without fine-tuning)",
    )
    parser.add_argument("--classes", metavar="NAMES", help="'biking, cooking' or a CSV (default: the checkpoint's)")
    parser.add_argument("--host", default=LOCAL, help=f"address to listen on (default {LOCAL}: this machine only)")
    parser.add_argument(
        "--allow_host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name under which the page may be requested, besides localhost and --host; can be repeated; '*': any",
    )
    parser.add_argument("--port", type=int, default=7860, help="default 7860")
    parser.add_argument("--max_megabytes", type=float, default=200, metavar="MB", help="upload limit (default 200)")
    parser.add_argument("--max_seconds", type=float, default=600, metavar="S", help="limit per video (default 600)")
    return parser.parse_intermixed_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    """Check the arguments; without config and weights, the demo is served."""
    args.is_demo = not args.config and not args.weights
    if args.is_demo and (Path(__file__).parent / DEFAULT_WEIGHTS).is_file():
        args.weights = str(Path(__file__).parent / DEFAULT_WEIGHTS)
    elif args.is_demo:
        args.config = str(Path(__file__).parent / DEFAULT_CONFIG)
    check_is_file(args.weights, "checkpoint file")
    for option in ("max_megabytes", "max_seconds"):
        if not getattr(args, option) > 0:
            raise UserError(f"--{option} {getattr(args, option):g}: must be above 0")
    if not 0 <= args.port < 65536:
        raise UserError(f"--port {args.port}: must be 0 to 65535")
    for name in args.allow_host:
        if not ALLOWED_HOST.fullmatch(name):
            raise UserError(f"--allow_host {name}: must be a name or address without port, '*.example.org', or '*'")


def check_address(args: argparse.Namespace) -> None:
    """Raise a UserError if the page cannot be served at --host and --port."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in args.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server has it
            probe.bind((args.host, args.port))
    except OSError as error:
        raise UserError(
            f"--host {args.host} --port {args.port}: cannot be listened on ({error.strerror}); choose another address "
            "or port"
        ) from None


def main(args: argparse.Namespace) -> None:
    check_arguments(args)
    check_address(args)
    check_config(args.config, args.overrides, () if args.is_demo or args.classes else ("data.label_list",))
    from engine.app import serve  # after the checks, so that --help and errors are fast

    serve(args)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
