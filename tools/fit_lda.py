"""Fits the LDA classifier of the paper: class embeddings are the coefficients of a linear discriminant analysis.

Frozen CLIP embeds some training videos of each class (mean over frames), on which scikit-learn's
LinearDiscriminantAnalysis is fitted. Then train with network.classifier=lda network.classifier_file=exp/lda.npz.

Examples:
    python -m tools.fit_lda --config my.yaml --out exp/lda.npz --videos 60
"""

import argparse
import sys

from utils.cli import config_parser, run_command
from utils.config import check_data_files, load_config
from utils.errors import UserError
from utils.files import check_writable


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument("--out", required=True, metavar="NPZ", help="the classifier file to write")
    parser.add_argument("--videos", type=int, default=60, metavar="N", help="training videos per class (default 60)")
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> None:
    cfg, config_warnings = load_config(args.config, [*args.overrides, "network.classifier=clip_text"], "train")
    if args.videos < 2:
        raise UserError(f"--videos {args.videos}: must be at least 2, to estimate the covariance within classes")
    check_data_files(cfg, ("data.train_list", "data.label_list", "data.train_root"))
    check_writable(args.out, "--out", inputs=(args.config, cfg.data.train_list, cfg.data.label_list))
    from engine.fit_lda import fit_classifier  # after the checks, so that --help and errors are fast

    fit_classifier(args, cfg, config_warnings)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
