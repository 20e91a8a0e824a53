"""Prints the value of a key of a training config with overrides; `run_dir`: the default run folder.

Examples:
    python -m tools.show_config --config configs/shapes/transf.yaml --key data.shot
    python -m tools.show_config --config configs/shapes/transf.yaml --key run_dir data.shot=4
"""

import argparse
import sys
from functools import reduce

from engine.rundir import default_run_dir
from utils.cli import config_parser, run_command
from utils.config import load_config
from utils.errors import UserError
from utils.schema import dotted_keys


def parse_arguments(arguments: list[str] | None = None):
    parser = config_parser(__doc__)
    parser.add_argument("--key", required=True, help="dotted key, such as data.shot; see docs/config.md")
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> None:
    if args.key not in (*dotted_keys(), "run_dir"):
        raise UserError(f"--key {args.key}: no such key; docs/config.md has all")
    cfg = load_config(args.config, args.overrides, "train").config
    print(default_run_dir(cfg) if args.key == "run_dir" else reduce(getattr, args.key.split("."), cfg))


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
