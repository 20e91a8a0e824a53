"""Writes a trained model to one file for serving (ONNX, torch.export, safetensors), checked against the model here."""

import argparse
import sys

from utils.cli import run_story
from utils.config import load_config
from utils.errors import UserError


def parse_arguments(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", metavar="CONFIG", help="the recipe; docs/config.md explains its keys")
    parser.add_argument("weights", metavar="WEIGHTS", help="a checkpoint of train.py or a published one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override")
    parser.add_argument("--format", required=True, choices=("onnx", "torch_export", "safetensors"))
    parser.add_argument("--out", metavar="FILE", help="default: the weights' name with the format's suffix")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_intermixed_args(arguments)


def main(args) -> None:
    # The exported graph computes in float32 whatever the training did.
    cfg, config_warnings = load_config(args.config, [*args.overrides, "solver.precision=fp32"], "predict")
    if not cfg.data.label_list:
        raise UserError(f"{args.config}: data.label_list: is required; give the CSV of class descriptions")
    from engine.export import export  # after the checks: --help and a typo answer at once

    export(args, cfg, config_warnings)


if __name__ == "__main__":
    sys.exit(run_story(main, parse_arguments()))
