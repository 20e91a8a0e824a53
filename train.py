"""Trains a video model from a config and validates it.

Examples:
    python train.py --config configs/k400/k400_train_rgb_vitb-32-f8.yaml
    python train.py --config my.yaml data.batch_size=32 solver.lr=1e-4 resume=auto
    python train.py --config my.yaml --check
"""

import argparse
import sys

from utils.cli import add_published_options, apply_published_options, config_parser, run_command
from utils.config import TEST_FILES, check_data_files, load_config
from utils.files import check_is_file


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="check config, data and weights, print a summary and stop")
    parser.add_argument("--log_time", metavar="NAME", help="run folder exp/<dataset>/<arch>/NAME")
    add_published_options(parser)
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> int:
    warnings = apply_published_options(args)
    cfg, config_warnings = load_config(args.config, args.overrides, "train")
    check_data_files(cfg, ("data.train_list", *TEST_FILES, "data.train_root"))
    check_is_file(cfg.pretrain or None, "checkpoint file")
    from engine.train import train  # after the checks, so that --help and errors are fast

    return train(args, cfg, [*config_warnings, *warnings])


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
