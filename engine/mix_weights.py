"""`python -m tools.interpolate` and `python -m tools.average_checkpoints`: weight interpolation and averaging."""

import argparse
import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from datasets.build import Views, build_eval_loader
from datasets.lists import read_labels
from inference.model import Checkpoint, VideoModel, read_checkpoint
from modules import weight_space
from modules.additions.addition import chosen_additions
from modules.embed import embed_videos
from modules.validation import text_matrix
from utils import distributed, metrics, results
from utils.checkpoint import save_checkpoint
from utils.context import RunContext
from utils.distributed import Process
from utils.errors import UserError
from utils.files import atomic_path
from utils.project_paths import given
from utils.protocols import check_single_label
from utils.runlog import open_log

# The colour-blind safe palette of Okabe and Ito.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
GREY = "#57606a"
LABEL_HEIGHT = 0.06  # height of a line's label, as a share of the axis


def average(paths: Sequence[str], out: str) -> None:
    """Write the average of checkpoints of one model to the file `out`."""
    mean = weight_space.average_checkpoints(paths)
    save_checkpoint(out, mean)
    num_values = sum(value.numel() for value in mean["model_state_dict"].values())
    print(f"{out}: {num_values:,} values, the mean of {len(paths)} checkpoints")
    print(results.next_command("sh", "scripts/run_test.sh", out))


def interpolate(args: argparse.Namespace, alphas: list[float], save_alpha: float, out: Path) -> None:
    """Score the interpolated weights at `alphas` and write the results to the folder `out`; save those at
    `save_alpha`."""
    configs = [args.config, *args.zeroshot]
    process = distributed.start()
    if process.world_size > 1:
        raise UserError("tools.interpolate runs in one process; start it without torchrun")
    checkpoint = read_checkpoint(args.weights, with_hash=True)
    resolved = [checkpoint.config(path, args.overrides, "test") for path in configs]
    log = open_log(process, [warning for each in resolved for warning in each.warnings])
    curves: Curves = {}
    for number, (path, (cfg, _, names)) in enumerate(zip(configs, resolved)):
        check_single_label(cfg, "tools.interpolate")

        names = names or read_labels(given(cfg.data.label_list), cfg.data.num_classes)
        model = VideoModel(cfg, names, None, process.device)
        fresh = weight_space.copy_of(model.network)
        model.load(checkpoint)
        tuned = weight_space.copy_of(model.network)
        start = weight_space.pretrained_counterpart(model.network, fresh, args.head)
        interpolated = weight_space.InterpolatedModel(model.network, start, tuned)
        if args.save and number == 0:
            interpolated.apply(save_alpha)
            mixed = weight_space.mixed_checkpoint(
                checkpoint.state,
                model.network.state_dict(),
                weights=args.weights,
                weights_hash=checkpoint.sha256,
                alpha=save_alpha,
                head=args.head,
            )
            save_checkpoint(args.save[1], mixed)
            log.info("%s: the checkpoint at %g", args.save[1], save_alpha)
        if not alphas:
            return

        curves[str(path or args.weights)] = scores_at(alphas, interpolated, model, process)
    write_curve(out, args, checkpoint, alphas, curves, chosen_additions(resolved[0].config))


Curves = dict[str, list[metrics.Scores]]


def scores_at(
    alphas: list[float], interpolated: weight_space.InterpolatedModel, model: VideoModel, process: Process
) -> list[metrics.Scores]:
    """Scores at each mixing weight; every video is read once and embedded at all of them."""
    cfg, context = model.cfg, RunContext(process, model.precision)
    loader = build_eval_loader(cfg, views=Views()).to(process.device)
    table = embed_videos(partial(interpolated.encode, alphas=alphas), loader, context, cfg.data.batch_size, "videos")
    assert table is not None  # this is the only process
    scores = []
    axis = 1 if table.embeddings.ndim == 2 else 2  # (N, A*D) or (N, V, A*R, D)
    for alpha, embeddings in zip(alphas, np.split(table.embeddings, len(alphas), axis=axis)):
        interpolated.apply(alpha)  # a trained text tower is interpolated, too
        matrix = model.class_matrix if model.network.classifier is None else text_matrix(model.network, None)
        logits = model.network.scorer.table_logits(embeddings, matrix, process.device)
        scores.append(metrics.score(logits, table.labels))
    return scores


def write_curve(
    out: Path,
    args: argparse.Namespace,
    checkpoint: Checkpoint,
    alphas: list[float],
    curves: Curves,
    additions: list[str],
) -> None:
    """Log the scores of each config as a table, and write curve.json and curve.png. `additions`: names of the additions
    to the image tower."""
    log = logging.getLogger(__name__)
    seen, *unseen = (Path(path).stem for path in curves)
    titles = [f"{seen} (seen)", *(f"{name} (zero-shot)" for name in unseen)]
    top1 = {title: [s.top1 for s in scores] for title, scores in zip(titles, curves.values())}
    rows = [("mixing weight", *(f"{title}, top-1 %" for title in titles))]
    rows += [(f"{alpha:g}", *(f"{top1[title][i]:.2f}" for title in titles)) for i, alpha in enumerate(alphas)]
    log.info("%s", results.format_table(rows))
    results.write_summary(
        out / "curve.json",
        alphas=alphas,
        head=args.head,
        weights=args.weights,
        weights_hash=checkpoint.sha256,
        scores={path: [s._asdict() for s in scores] for path, scores in curves.items()},
    )
    start = "pretrained CLIP" if args.head == "fade" else "CLIP's image tower with tuned head"
    start += "".join(f", initial {name}" for name in additions)
    draw(out / "curve.png", alphas, top1, f"mixing weight; 0: {start}, 1: the tuned checkpoint")
    log.info("curve.json and curve.png are in %s", out)


def draw(path: Path, alphas: list[float], top1: dict[str, list[float]], label: str) -> None:
    """Plot the scores over the mixing weight, with a label at the end of each line."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    low = min(90, 10 * math.floor(min(map(min, top1.values())) / 10))
    apart = LABEL_HEIGHT * (100 - low)
    height = -apart
    for title, values in sorted(top1.items(), key=lambda item: item[1][-1]):
        colour = COLOURS[list(top1).index(title) % len(COLOURS)]
        axis.plot(alphas, values, color=colour, linewidth=2, marker="o", markersize=5, clip_on=False)
        height = max(values[-1], height + apart)  # labels must not overlap
        text = f"{title} {values[-1]:.1f}"
        axis.annotate(
            text,
            xy=(alphas[-1], height),
            xytext=(10, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            annotation_clip=False,
        )
    axis.set_xlabel(label, color=GREY)
    axis.set_title("top-1 %", loc="left", color=GREY, fontsize="medium")
    axis.set_ylim(low, 100)
    axis.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    axis.grid(axis="y", color="0.9")
    axis.tick_params(length=0, labelcolor=GREY)
    axis.spines[["top", "right", "left"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
