"""`python -m tools.fit_lda`: class embeddings by linear discriminant analysis of frozen CLIP embeddings."""

import argparse

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from datasets.build import build_eval_loader, read_train_entries
from datasets.lists import pick_few_shot
from datasets.sets import check_single_set, class_names
from inference.model import plain_clip
from modules.build import build_model, load_clip_model
from modules.classifier_file import ClassifierFile, save_classifier
from modules.pixels import with_preprocessing
from modules.validation import embed_with
from utils import distributed
from utils.context import RunContext
from utils.errors import UserError
from utils.hashing import content_hash, file_hash
from utils.precision import resolve_precision
from utils.project_paths import given
from utils.protocols import check_single_label
from utils.results import next_command
from utils.runlog import open_log
from utils.schema import Config


def fit_classifier(args: argparse.Namespace, cfg: Config, config_warnings: list[str]) -> None:
    """Write the classifier file `args.out`, fitted on `args.videos` training videos per class."""
    check_single_label(cfg, "tools.fit_lda")
    process = distributed.start()
    log = open_log(process, config_warnings)
    if process.world_size > 1:
        raise UserError("tools.fit_lda runs in one process; start it without torchrun")

    # ---- the training videos, read as in validation: one clip, centre crop
    data = cfg.data.model_copy(update={"shot": 0, "val_root": cfg.data.train_root, "val_list": cfg.data.train_list})
    cfg = with_preprocessing(plain_clip(cfg).model_copy(update={"data": data}))
    check_single_set(cfg.data, "tools.fit_lda")
    names, train_list = class_names(cfg.data), given(cfg.data.train_list)
    entries = read_train_entries(cfg).entries
    picks = entries[pick_few_shot(entries.labels, args.videos, cfg.seed)]
    absent = np.setdiff1d(range(len(names)), picks.labels)
    if len(absent):
        raise UserError(f"{train_list}: no videos of {len(absent)} classes, such as {names[absent[0]]}")
    loader = build_eval_loader(cfg, entries=picks).to(process.device)

    precision = resolve_precision(cfg.solver.precision, process.device)
    clip_model = load_clip_model(cfg)
    model = build_model(cfg, clip_model).to(process.device)
    table = embed_with(model, loader, RunContext(process, precision), cfg.data.batch_size, "videos")
    assert table is not None  # this is the only process
    matrix = fit_lda(table.embeddings, table.labels)
    source = [table.paths, cfg.seed, file_hash(train_list), content_hash(model.visual.state_dict())]
    save_classifier(args.out, ClassifierFile(matrix, names, "lda", [], content_hash(source)))
    num_classes, width = matrix.shape
    log.info("%d classes x %d values, from %d videos: %s", num_classes, width, len(picks), args.out)
    overrides = ("network.classifier=lda", f"network.classifier_file={args.out}")
    log.info("%s", next_command("python", "train.py", "--config", args.config, *overrides))


def fit_lda(embeddings: np.ndarray, labels: np.ndarray) -> torch.Tensor:
    """float32 (K, D) coefficients of a linear discriminant analysis of (N, D) video embeddings, which are normalised.
    `labels`: (N,) int64, each of 0..K-1 at least once."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    coefficients = LinearDiscriminantAnalysis().fit(embeddings / lengths, labels).coef_
    if len(coefficients) == 1:  # two classes: one direction, towards the second
        coefficients = np.concatenate([-coefficients, coefficients])
    return torch.from_numpy(coefficients.astype(np.float32))
