"""Exports a trained model to one file for serving (ONNX, torch.export or safetensors) and checks it against PyTorch.

Examples:
    python export.py --weights exp/demo/transf/last_model.pt --format onnx
    python export.py --config my.yaml --weights published.pt --format safetensors --out model.safetensors
"""

import argparse
import sys

from utils.cli import Parser, run_command
from utils.config import check_config
from utils.files import check_is_file, check_writable


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to override")
    parser.add_argument("--config", "-cfg", metavar="YAML", help="config file (default: that of the checkpoint)")
    parser.add_argument("--weights", required=True, metavar="FILE", help="checkpoint of train.py, or a published one")
    parser.add_argument("--format", required=True, choices=("onnx", "torch_export", "safetensors"))
    parser.add_argument("--out", metavar="FILE", help="default: the weights' name with the format's suffix")
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> None:
    check_config(args.config, args.overrides, ("data.label_list",))
    check_writable(args.out, "--out", inputs=(args.weights, args.config))
    check_is_file(args.weights, "checkpoint file")
    from engine.export import export  # after the checks, so that --help and errors are fast

    export(args)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
