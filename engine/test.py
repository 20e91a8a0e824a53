"""`test.py`: every video once to a table of embeddings, then the scores of that table."""

import argparse
import logging
from pathlib import Path

import numpy as np

from datasets.build import Views, build_eval_loader
from datasets.lists import read_labels
from modules.testing import TestedModel, load_tested_model
from modules.validation import embed_with, text_matrix
from utils import distributed, metrics, protocols, results
from utils.cli import folder_beside, next_report
from utils.context import RunContext
from utils.embed import VideoTable, save_table
from utils.files import check_writable
from utils.hashing import file_hash
from utils.runlog import RESULT, open_log
from utils.schema import Config


def test(args: argparse.Namespace, cfg: Config, config_warnings: list[str]) -> None:
    """Test a checkpoint and write its table and scores."""
    process = distributed.start()
    log = open_log(process, config_warnings, quiet=args.quiet, plain=args.plain)
    dense = args.dense or cfg.data.dense
    views = f"{args.test_clips}x{args.test_crops}{'_dense' if dense else ''}"
    out = Path(args.out or folder_beside(args.weights, f"test_{Path(args.config).stem}_{views}"))

    check_writable(out, "--out", is_folder=True)

    # ---- data
    names = read_labels(cfg.data.label_list, cfg.data.num_classes)
    loader = build_eval_loader(
        cfg,
        process.world_size,
        process.rank,
        Views(args.test_clips, args.test_crops, dense),
        allow_missing=args.allow_missing,
    )

    # ---- model
    tested = load_tested_model(cfg, names, args.weights, process)
    precision = tested.precision

    # ---- videos to a table
    log.info(
        "testing %s: %d videos, %d classes, %d clips x %d crops, %s",
        args.weights,
        len(loader.dataset),
        len(names),
        args.test_clips,
        args.test_crops,
        precision,
    )
    table = embed_with(tested.model, loader, RunContext(process, precision), cfg.data.batch_size, "test")
    distributed.stop()
    if table is None:
        return
    table = tested.signed(table, args.test_clips, args.test_crops)
    write_scores(args, cfg, tested, table, out, log)


def write_scores(
    args: argparse.Namespace, cfg: Config, tested: TestedModel, table: VideoTable, out: Path, log: logging.Logger
) -> None:
    """Score the table of a test; write the table, its predictions and a summary to the folder `out`."""
    names = read_labels(cfg.data.label_list, cfg.data.num_classes)
    dense = args.dense or cfg.data.dense
    matrix = text_matrix(tested.model, tested.text)
    logits = metrics.class_logits(table.embeddings, matrix)
    scores = metrics.score(logits, table.labels)
    num_missing = int(np.isnan(table.embeddings[:, 0]).sum())
    average_precisions = protocols.map_summary(logits, table.labels) if args.metric == "map" else {}
    save_table(out / "embeddings.npz", table, matrix, names)
    results.write_predictions(out / "predictions.csv", table.paths, table.labels, logits, names)
    results.write_summary(
        out / "summary.json",
        **scores._asdict(),
        **average_precisions,
        num_missing=num_missing,
        seconds=round(table.seconds, 3),
        videos_per_second=round(scores.num_videos / table.seconds, 3),
        weights=args.weights,
        weights_hash=file_hash(args.weights),
        list=cfg.data.val_list,
        list_hash=file_hash(cfg.data.val_list),
        num_classes=len(names),
        views={"clips": args.test_clips, "crops": args.test_crops, "dense": dense},
        prompt=cfg.network.prompt,
        precision=tested.precision,
        config=cfg.model_dump(),
    )
    log.log(RESULT, "%s", scores.describe())
    if num_missing:
        log.warning("WARNING: %d of them could not be read and count as wrong", num_missing)
    if average_precisions:
        log.log(
            RESULT,
            "mAP %.2f%% (ranked as published, by softmax applied twice: %.2f%%)",
            average_precisions["map"],
            average_precisions["map_published_ranking"],
        )
    log.info("%.1f videos/s; results are in %s", scores.num_videos / table.seconds, out)
    log.info("%s", next_report(args.weights, out))
