"""`test.py`: embeds each video once into a table, and scores the table."""

import argparse
import logging
from pathlib import Path

from datasets.build import Views, build_eval_loader
from datasets.lists import read_labels
from engine import results
from engine.folder_lock import folder_lock
from engine.keeper import LAST
from engine.rundir import default_run_dir
from inference.model import VideoModel, resolve
from modules.embed import VideoTable, save_table
from modules.validation import embed_with
from reporting.confusion import confusion_matrix
from reporting.confusion_files import CONFUSION_FILES, write_confusion
from reporting.outcomes import outcomes_of
from reporting.temperature import calibration_summary
from utils import distributed, metrics, protocols
from utils.cli import folder_beside
from utils.context import RunContext
from utils.errors import UserError
from utils.hashing import file_hash
from utils.project_paths import given
from utils.results import write_summary
from utils.runlog import RESULT, open_log


def test(args: argparse.Namespace, warnings: list[str]) -> None:
    """Test a checkpoint, or an image-text model without video training; `warnings` are logged first."""
    process = distributed.start()
    checkpoint, resolved = resolve(args.weights, args.config, args.overrides, "test", with_hash=process.is_main)
    cfg, config_warnings, names = resolved
    log = open_log(process, [*warnings, *config_warnings], quiet=args.quiet, plain=args.plain)
    dense = args.dense or cfg.data.dense
    name = f"test_{Path(args.config).stem}_" if args.config else "test_"
    name += f"{args.test_clips}x{args.test_crops}" + ("_dense" if dense else "")
    out = Path(args.out or folder_beside(args.weights or str(default_run_dir(cfg) / LAST), name))

    if args.confusion:
        protocols.check_single_label(cfg, "--confusion")
    if args.allow_missing and cfg.data.multi_label:
        raise UserError("--allow_missing: not supported for mAP, which needs a prediction for every video; remove it")

    names = names or read_labels(given(cfg.data.label_list), cfg.data.num_classes)
    clips, crops = args.test_clips, args.test_crops
    views = Views(clips, crops, dense)
    with folder_lock(out if process.is_main else None, "--out"):
        loader = build_eval_loader(cfg, process.world_size, process.rank, views, allow_missing=args.allow_missing)
        loader = loader.to(process.device)
        model = VideoModel(cfg, names, checkpoint, process.device)
        shown_views = "1 view" if clips * crops == 1 else f"clips x crops: {clips} x {crops}"
        log.info(
            f"testing {args.weights or model.description}: {len(loader.dataset)} videos, {len(names)} classes, "
            f"{shown_views}, {model.precision}"
        )
        table = embed_with(model.network, loader, RunContext(process, model.precision), cfg.data.batch_size, "test")
        distributed.stop()
        if table is not None:
            table = model.signed(table, clips, crops)
            write_scores(args, model, table, out, checkpoint.sha256 if checkpoint else None)


def write_scores(
    args: argparse.Namespace, model: VideoModel, table: VideoTable, out: Path, weights_hash: str | None
) -> None:
    """Score the table of a test; write the table, its predictions and a summary to the folder `out`. `weights_hash`: of
    the checkpoint file; None without one."""
    cfg, names, log = model.cfg, model.class_names, logging.getLogger()
    dense = args.dense or cfg.data.dense
    logits = model.network.scorer.table_logits(table.embeddings, model.class_matrix, model.device)
    scores = metrics.score_labels(logits, table.labels)
    num_missing = int(table.is_missing.sum())
    is_ranked = args.metric == "map" and not cfg.data.multi_label
    average_precisions = protocols.map_summary(logits, table.labels) if is_ranked else {}
    calibration = {} if cfg.data.multi_label else calibration_summary(logits, table.labels)
    for name in ("summary.json", *CONFUSION_FILES):  # of an earlier test; without a summary, results are incomplete
        (out / name).unlink(missing_ok=True)
    save_table(out / "embeddings.npz", table, model.class_matrix, names)
    results.write_predictions(out / "predictions.csv", table.paths, table.labels, logits, names)
    if args.confusion:
        predicted = outcomes_of(logits, table.labels).predicted
        write_confusion(out, confusion_matrix(table.labels, predicted, len(names)), names)
    write_summary(
        out / "summary.json",
        **scores._asdict(),
        **average_precisions,
        **calibration,
        num_missing=num_missing,
        seconds=round(table.seconds, 3),
        videos_per_second=round(scores.num_videos / table.seconds, 3),
        weights=args.weights,
        weights_hash=weights_hash,
        list=cfg.data.val_list,
        list_hash=file_hash(given(cfg.data.val_list)),
        num_classes=len(names),
        views={"clips": args.test_clips, "crops": args.test_crops, "dense": dense},
        prompt=cfg.network.prompt,
        precision=model.precision,
        config=cfg.model_dump(),
    )
    log.log(RESULT, "%s", scores.describe())
    if num_missing:
        log.warning("WARNING: %d of them could not be read and count as wrong", num_missing)
    if calibration:
        log.info(
            f"expected calibration error {calibration['ece']:.2f}%; with logits divided by "
            f"{calibration['temperature']:.3g} (fitted on one half of the videos, measured on the other): "
            f"{calibration['ece_at_temperature']:.2f}%"
        )
    if average_precisions:
        ours, published = average_precisions["map"], average_precisions["map_published_ranking"]
        log.log(RESULT, f"mAP {ours:.2f}% (ranked as published, by softmax applied twice: {published:.2f}%)")
    log.info("%s", table.describe(out / "embeddings.npz"))
    log.info("%.1f videos/s; results are in %s", scores.num_videos / table.seconds, out)
    log.info("%s", results.next_report(args.weights, out))
