"""Writes a trained model to one file for serving (ONNX, torch.export, safetensors), checked against the model here."""

import argparse
import sys
from pathlib import Path

from utils.cli import run_command
from utils.config import check_config
from utils.errors import UserError
from utils.files import check_is_file, check_writable


def parse_arguments(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "files", nargs="+", metavar="[CONFIG] WEIGHTS [key=value ...]",
        help="a checkpoint of train.py, or the config and the checkpoint of another program; keys to override",
    )  # fmt: skip
    parser.add_argument("--format", required=True, choices=("onnx", "torch_export", "safetensors"))
    parser.add_argument("--out", metavar="FILE", help="default: the weights' name with the format's suffix")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_intermixed_args(arguments)


def split_files(args: argparse.Namespace) -> list[str]:
    """Put `config` and `weights` into `args` and return the overrides."""
    overrides = [text for text in args.files if "=" in text and not Path(text).exists()]
    files = [text for text in args.files if text not in overrides]
    if not 1 <= len(files) <= 2:
        raise UserError(f"{len(files)} files are given; give WEIGHTS, or CONFIG and WEIGHTS")
    args.config, args.weights = files if len(files) == 2 else (None, files[0])
    return overrides


def main(args: argparse.Namespace) -> None:
    overrides = split_files(args)
    check_config(args.config, overrides, ("data.label_list",))
    if args.out:
        check_writable(args.out, "--out")
    check_is_file(args.weights, "checkpoint file")
    from engine.export import export  # after the checks: --help and a typo answer at once

    export(args, overrides)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
