"""`test_frozen.py`: probes on the features of a frozen image tower.

Legend: B clips, T frames, L tokens of a frame, C their width, K classes, P probes.
"""

import argparse
import itertools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from datasets.build import Views, build_eval_loader, build_train_loader, read_train_entries
from datasets.entries import Entries
from datasets.sets import check_single_set, class_names
from inference.model import Checkpoint, resolve
from modules.build import build_model, load_clip_model
from modules.checkpoint_layout import load_video_weights
from modules.classifiers.trained import trained_classifier
from modules.embed import VideoTable, embed_videos
from modules.probes.probe import ProbeSweep, Setting
from modules.tower_tokens import embed_with_tokens
from modules.video_clip import VideoCLIP
from utils import distributed, metrics, results
from utils.context import RunContext
from utils.errors import UserError
from utils.files import check_writable
from utils.memory import to_device
from utils.precision import resolve_precision
from utils.protocols import check_single_label
from utils.runlog import RESULT, open_log, progress_bar
from utils.schema import Config


def test_frozen(args: argparse.Namespace, warnings: list[str]) -> None:
    """Train the probes `args.kinds` with all hyperparameters, test them, and write summary.json to `args.out`."""
    process = distributed.start()
    check_writable(args.out, "--out", is_folder=True)
    checkpoint, resolved = resolve(args.weights, args.config, args.overrides, "train", with_hash=process.is_main)
    cfg, config_warnings, _ = resolved
    log = open_log(process, [*warnings, *config_warnings], quiet=args.quiet, plain=args.plain)
    check_single_label(cfg, "test_frozen.py")
    context = RunContext(process, resolve_precision(cfg.solver.precision, process.device))
    check_single_set(cfg.data, "test_frozen.py")
    names = class_names(cfg.data)

    model = frozen_model(cfg, checkpoint).to(process.device)
    rows = knn_rows(args, cfg, model, context) if "knn" in args.kinds else []
    trained = [kind for kind in args.kinds if kind != "knn"]
    settings = [Setting(*values) for values in itertools.product(trained, args.rates, args.decays)]
    if settings:
        rows += probe_rows(args, cfg, train_probes(args.epochs, settings, cfg, model, context), model, context)
    distributed.stop()
    if not process.is_main:
        return
    best = {kind: max((r for r in rows if r["kind"] == kind), key=lambda r: r["top1"]) for kind in args.kinds}
    results.write_summary(
        f"{args.out}/summary.json",
        best=best,
        rows=rows,
        weights=args.weights,
        weights_hash=checkpoint.sha256 if checkpoint else None,
        epochs=args.epochs,
        views={"clips": args.test_clips, "crops": args.test_crops},
        num_classes=len(names),
        config=cfg.model_dump(),
    )
    shown: list[tuple[str, ...]] = [("probe", "lr", "weight decay", "top-1 %", "top-5 %")]
    for row in rows:
        lr, weight_decay = row.get("lr", ""), row.get("weight_decay", "")  # nearest neighbours have none
        shown.append((row["kind"], str(lr), str(weight_decay), f"{row['top1']:.2f}", f"{row['top5']:.2f}"))
    log.log(RESULT, "%s", results.format_table(shown))
    log.info("the best probe of each kind is selected on the test videos, as published; results are in %s", args.out)


def frozen_model(cfg: Config, checkpoint: Checkpoint | None) -> VideoCLIP:
    """The frozen model in evaluation mode; without a checkpoint, CLIP's tower and the mean of the frames."""
    if checkpoint and trained_classifier(cfg) is not None:
        raise UserError(
            f"{checkpoint.path}: its text tower or class embeddings were trained; test_frozen.py supports only frozen "
            "ones"
        )
    cfg = cfg.model_copy(update={"network": cfg.network.model_copy(update={"scorer": "cosine"})})
    model = build_model(cfg, load_clip_model(cfg))
    if checkpoint:
        load_video_weights(model, checkpoint.state, checkpoint.path)
    return model.requires_grad_(False).eval()


def clip_tokens(model: VideoCLIP, clips: torch.Tensor, context: RunContext) -> torch.Tensor:
    """uint8 clips (B, T, C, S, S) -> float32 tokens (B, T*L, C) of all frames, without gradient."""
    with torch.no_grad(), context.autocast():
        _, tokens = embed_with_tokens(model.visual, model.normalized_images(clips))
    return tokens.float().unflatten(0, (len(clips), -1)).flatten(1, 2)


Trained = tuple[ProbeSweep, list[float]]
"""Probes and their mean losses in the last epoch."""


def train_probes(epochs: int, settings: list[Setting], cfg: Config, model: VideoCLIP, context: RunContext) -> Trained:
    """Train all probes on the same forward passes of the tower."""
    process, log = context.process, logging.getLogger(__name__)
    loader = build_train_loader(cfg, process.world_size, process.rank).to(context.device)
    sweep: ProbeSweep | None = None
    for epoch in range(epochs):
        loader.start_epoch(epoch)
        losses = torch.zeros(len(settings), device=context.device)
        with progress_bar(len(loader), "batch", f"epoch {epoch + 1}", process) as bar:
            for batch in loader:
                tokens = clip_tokens(model, batch["frames"].to(context.device, non_blocking=True), context)
                if sweep is None:
                    sweep = ProbeSweep(cfg, settings, tokens.shape[-1], epochs * len(loader), process)
                labels = to_device(batch["label"], context.device)
                losses += sweep.step(tokens, labels, to_device(batch["weight"], context.device))
                bar.update(1)
        mean = losses / len(loader)
        log.info("epoch %d of %d: loss %.3f to %.3f", epoch + 1, epochs, mean.min(), mean.max())
        if not mean.isfinite().all():
            log.warning("WARNING: the loss of %d probes is not finite", int((~mean.isfinite()).sum()))
    assert sweep is not None  # lists are not empty
    return sweep, mean.tolist()


def probe_rows(
    args: argparse.Namespace, cfg: Config, trained: Trained, model: VideoCLIP, context: RunContext
) -> list[dict[str, Any]]:
    """Hyperparameters and scores of each probe, from its probabilities averaged over the views of a video.

    Only on the main process.
    """
    sweep, losses = trained

    def encode(clips: torch.Tensor) -> torch.Tensor:
        # A probe that has diverged is scored with zero probabilities.
        return sweep.probabilities(clip_tokens(model, clips, context)).nan_to_num()

    for probe in sweep.probes:
        probe.eval()
    table = _embed(encode, cfg, Views(args.test_clips, args.test_crops), context, "probes")
    if table is None:
        return []
    parts = np.split(table.embeddings, len(sweep.probes), axis=1)
    return [
        {
            **setting._asdict(),
            **metrics.score(part, table.labels)._asdict(),
            "trained": sum(parameter.numel() for parameter in probe.parameters()),
            "training_loss": loss,
        }
        for setting, probe, part, loss in zip(sweep.settings, sweep.probes, parts, losses)
    ]


def knn_rows(args: argparse.Namespace, cfg: Config, model: VideoCLIP, context: RunContext) -> list[dict[str, Any]]:
    """Hyperparameters and scores of nearest neighbours by video embeddings. Only on the main process."""
    data = cfg.data.model_copy(update={"val_root": cfg.data.train_root, "val_list": cfg.data.train_list})
    of_training = cfg.model_copy(update={"data": data})
    entries = read_train_entries(cfg)
    known = entries.picks if entries.picks is not None else entries.entries
    train = _embed(model.encode_video, of_training, Views(), context, "training videos", known)
    test = _embed(model.encode_video, cfg, Views(args.test_clips, args.test_crops), context, "test videos")
    if train is None or test is None:
        return []
    votes = metrics.knn_votes(
        train.embeddings, train.labels, test.embeddings, cfg.data.num_classes, num_neighbours=args.neighbours
    )
    return [{"kind": "knn", "neighbours": args.neighbours, **metrics.score(votes, test.labels)._asdict()}]


Encode = Callable[[torch.Tensor], torch.Tensor]


def _embed(
    encode: Encode, cfg: Config, views: Views, context: RunContext, description: str, entries: Entries | None = None
) -> VideoTable | None:
    """The table on the main process, None on others."""
    loader = build_eval_loader(cfg, context.process.world_size, context.process.rank, views, entries).to(context.device)
    return embed_videos(encode, loader, context, cfg.data.batch_size, description)
