"""Fits the LDA classifier of the paper: the class embeddings are the coefficients of a linear discriminant analysis.

CLIP's image tower, as it is, embeds some training videos of each class (mean over frames), and scikit-learn's
LinearDiscriminantAnalysis separates them. Then train with network.classifier=lda network.classifier_file=exp/lda.npz.

Examples:
    python -m tools.fit_lda --config my.yaml --out exp/lda.npz --videos 60
"""

import argparse
import sys

from datasets.build import build_eval_loader, read_train_entries
from datasets.lists import pick_few_shot, read_labels
from modules.build import build_model, load_clip_model
from modules.classifier_file import ClassifierFile, save_classifier
from modules.lda import fit_lda
from modules.pixels import with_own_pixels
from modules.validation import embed_with
from utils import distributed
from utils.cli import config_parser, run_command
from utils.config import load_config
from utils.context import RunContext
from utils.errors import UserError
from utils.hashing import content_hash, file_hash
from utils.precision import resolve_precision
from utils.runlog import open_log


def parse_arguments(arguments: list[str] | None = None):
    parser = config_parser(__doc__)
    parser.add_argument("--out", required=True, metavar="NPZ", help="the classifier file to write")
    parser.add_argument("--videos", type=int, default=60, metavar="N", help="training videos a class (default 60)")
    return parser.parse_intermixed_args(arguments)


def main(args: argparse.Namespace) -> None:
    # The command makes the very file that a config with classifier lda names: nothing of the text side is needed here.
    overrides = [*args.overrides, "network.classifier=clip_text", "network.prompt_set=null", "network.tm=false"]
    overrides += [
        "network.scorer=cosine",
        "network.sim_header=None",
        "network.joint_st=false",
        "network.context_tokens=0",
    ]
    overrides += ["network.context_init=null", "network.context_per_class=false", "network.fix_text=true"]
    overrides += ["network.drop_out=0", "network.emb_dropout=0", "network.train_classifier=false"]
    cfg, config_warnings = load_config(args.config, overrides, "train")
    if args.videos < 2:
        raise UserError(f"--videos {args.videos}: must be 2 or more; the spread within a class is part of the fit")

    process = distributed.start()
    log = open_log(process, config_warnings)
    if process.world_size > 1:
        raise UserError("fit_lda.py runs in one process; start it without torchrun")

    # ---- the training videos, read by the rules of validation: one clip, centre crop
    data = cfg.data.model_copy(update={"shot": 0, "val_root": cfg.data.train_root, "val_list": cfg.data.train_list})
    cfg = with_own_pixels(cfg.model_copy(update={"data": data}))
    assert cfg.data.label_list is not None and cfg.data.train_list is not None
    names = read_labels(cfg.data.label_list, cfg.data.num_classes)
    entries = read_train_entries(cfg).entries
    picks = [entries[i] for i in pick_few_shot([e.label for e in entries], args.videos, cfg.seed)]
    absent = sorted(set(range(len(names))) - {e.label for e in picks})
    if absent:
        raise UserError(f"{cfg.data.train_list}: no videos of {len(absent)} classes, as {names[absent[0]]}")
    loader = build_eval_loader(cfg, entries=picks)

    # ---- embeddings, fit
    precision = resolve_precision(cfg.solver.precision, process.device)
    clip_model = load_clip_model(cfg)
    model = build_model(cfg, clip_model).to(process.device)
    table = embed_with(model, loader, RunContext(process, precision), cfg.data.batch_size, "videos")
    assert table is not None  # this is the only process
    matrix = fit_lda(table.embeddings, table.labels)
    source = [table.paths, cfg.seed, file_hash(cfg.data.train_list), content_hash(model.visual.state_dict())]
    save_classifier(args.out, ClassifierFile(matrix, names, "lda", [], content_hash(source)))
    log.info("%d classes x %d values, from %d videos: %s", *matrix.shape, len(picks), args.out)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
