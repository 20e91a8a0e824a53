"""Trains the variants of the model on the demo's clips, one after the other, and writes their scores as one table.

Needs the clips that scripts/run_demo.sh renders. A variant that is done is not trained again. The table has a row for
each variant with results in --out; docs/variants.md is written once all of them have, and
docs/tuning.md, what each way to tune costs, once those of TUNING have.

Examples:
    python -m tools.compare_variants
    python -m tools.compare_variants --epochs 2 --out exp/try --only transf none
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from utils.checkpoint import load_checkpoint
from utils.cli import Parser, run_command
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.project_paths import REPOSITORY
from utils.records import read_records

WORLD = "exp/demo/world"
PAGE, TUNING_PAGE = "docs/variants.md", "docs/tuning.md"
MEAN, HEAD = "network.sim_header=None", "network.sim_header=Transf"
# Name -> (what it is, overrides of configs/shapes/transf.yaml).
VARIANTS = {
    "mean": ("mean of the frames", [MEAN]),
    "transf": ("temporal head", [HEAD]),
    "tsm": ("`tsm`, mean of the frames", [MEAN, "network.tm=tsm"]),
    "tokenshift": ("`tokenshift`, mean of the frames", [MEAN, "network.tm=tokenshift"]),
    "tokent1d": ("`tokent1d`, mean of the frames", [MEAN, "network.tm=tokent1d"]),
    "joint_st": ("`joint_st`", [MEAN, "network.joint_st=true"]),
    "nce": ("temporal head, NCE, text tower trained", [HEAD, "solver.loss_type=NCE", "network.fix_text=false"]),
    "ds": ("temporal head, DS, text tower trained", [HEAD, "solver.loss_type=DS", "network.fix_text=false"]),
    "coop": ("temporal head, learned context of 4 tokens", [HEAD, "network.context_tokens=4"]),
    "random": ("temporal head, random classifier", [HEAD, "network.classifier=random"]),
    "orthogonal": ("temporal head, orthogonal classifier", [HEAD, "network.classifier=orthogonal"]),
}
RATE = "solver.lr=3e-3"  # adapters train at higher rates; published ones are 3e-4 to 8e-3
ADAPTED = {
    "frozen": ("temporal head, frozen tower", [HEAD, "network.fix_video=true"]),
    "st_adapter": (
        "`st_adapter` 32 wide",
        [MEAN, "network.adapter=st_adapter", "components.st_adapter.width=32", RATE],
    ),
    "aim": ("`aim`", [MEAN, "network.adapter=aim", RATE]),
    "deep_prompts": (
        "`deep_prompts`",
        [MEAN, "network.adapter=deep_prompts", "components.deep_prompts.tokens=4", RATE],
    ),
    "lora": ("`lora`", [MEAN, "network.adapter=lora", RATE]),
    "bitfit": ("`bitfit`", [MEAN, "network.adapter=bitfit", "solver.clip_ratio=1", RATE]),
}
"""Further ones, of TUNING_PAGE alone."""
ALL = VARIANTS | ADAPTED
TUNING = (
    "mean", "transf", "frozen", "st_adapter", "aim", "deep_prompts", "lora", "bitfit", "tsm", "tokenshift", "tokent1d",
    "joint_st",
)  # fmt: skip
"""The rows of TUNING_PAGE: full tuning with the mean of the frames and with the head, then the others."""
# What a zero-shot test of a variant must know of its training.
SHARED_KEYS = ("network.", "components.", "solver.loss_type")


def run(*words: str) -> int:
    """Run a command to its end; the most memory that it took, in bytes."""
    process = subprocess.Popen(
        [sys.executable, *words], cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise UserError(f"{' '.join(words)} failed: {error.strip().splitlines()[-1]}")
    return usage.ru_maxrss * 1024  # Linux counts kilobytes


def measure(name: str, epochs: int, folder: Path) -> None:
    """Train and test one variant into `folder`."""
    if not (REPOSITORY / WORLD).exists():
        raise UserError(f"{WORLD}: no such folder; render it: python -m demo.make_shapes_world {WORLD}")
    overrides = ALL[name][1]
    peak = run(
        "train.py", "--config", "configs/shapes/transf.yaml", *overrides, f"solver.epochs={epochs}",
        "solver.save=trained", f"logging.run_dir={folder}", "logging.eval_freq=100", "logging.tensorboard=false",
        "resume=auto",
    )  # fmt: skip
    write_text_atomic(folder / "memory.json", json.dumps({"peak": peak}))
    run(
        "test_zeroshot.py", "--config", "configs/shapes/zeroshot.yaml", "--weights", str(folder / "last_model.pt"),
        "--out", str(folder / "zeroshot"), *[o for o in overrides if o.startswith(SHARED_KEYS)],
    )  # fmt: skip


def is_done(folder: Path) -> bool:
    return (folder / "zeroshot" / "summary.json").exists()


def read_scores(folder: Path) -> dict[str, float]:
    """Top-1 of one variant that is done, on the seen classes' validation clips and on the held-out combinations."""
    records = read_records(folder / "metrics.jsonl", f"remove {folder} to measure again")
    seen = [record for record in records if record["kind"] == "val"][-1]["top1"]
    tests = json.loads((folder / "zeroshot" / "summary.json").read_text(encoding="utf-8"))["tests"]
    return {"seen": seen, "held_out": next(iter(tests.values()))["full_top1"]}


def read_costs(folder: Path) -> dict[str, float]:
    """What a variant that is done cost: trained values, bytes of checkpoint and process, seconds of a step."""
    records = read_records(folder / "metrics.jsonl", f"remove {folder} to measure again")
    state = load_checkpoint(folder / "last_model.pt")["model_state_dict"]
    return {
        "trained": sum(value.numel() for value in state.values()),
        "size": (folder / "last_model.pt").stat().st_size,
        "peak": json.loads((folder / "memory.json").read_text(encoding="utf-8"))["peak"],
        "seconds": statistics.median(record["seconds"] for record in records if record["kind"] == "train"),
    }


def make_tuning_page(scores: dict[str, dict[str, float]], costs: dict[str, dict[str, float]], epochs: int) -> str:
    """The table of docs/tuning.md; what is above its first `| way` line stays."""
    lines = [
        "| way to tune | seen | held-out | trained values | checkpoint, MB | process, MB | step, ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, score in scores.items():
        what, cost = ALL[name][0], costs[name]
        lines.append(
            f"| {what} | {score['seen']:.1f} | {score['held_out']:.1f} | {cost['trained']:,} | "
            f"{cost['size'] / 1e6:.2f} | {cost['peak'] / 1e6:.0f} | {cost['seconds'] * 1e3:.0f} |"
        )
    lines += ["", f"{epochs} epochs, one seed, one view. Made by `python -m tools.compare_variants` on a CPU."]
    return "\n".join(lines) + "\n"


def write_tuning_page(folders: dict[str, Path], epochs: int) -> None:
    done = {name: folders[name] for name in TUNING if is_done(folders[name])}
    if len(done) < len(TUNING):
        return
    scores, costs = ({name: read(folder) for name, folder in done.items()} for read in (read_scores, read_costs))
    page = REPOSITORY / TUNING_PAGE
    head = page.read_text(encoding="utf-8").split("| way to tune | seen")[0]
    write_text_atomic(page, head + make_tuning_page(scores, costs, epochs))
    print(f"table: {TUNING_PAGE}")


def make_page(scores: dict[str, dict[str, float]], epochs: int) -> str:
    lines = [
        "# Variants on the embedded world",
        "",
        f"Top-1 in percent after {epochs} epochs, one view: on the validation clips of the 32 seen classes, and",
        "zero-shot on the 8 combinations of shape and motion that no training saw (chance: 12.5). One seed; the recipe",
        "of `configs/shapes/transf.yaml`. Made by `python -m tools.compare_variants`, on the CPU.",
        "",
        "| variant | overrides | seen classes | held-out combinations |",
        "| --- | --- | --- | --- |",
    ]
    for name, score in scores.items():
        what, overrides = VARIANTS[name]
        lines.append(f"| {what} | `{' '.join(overrides)}` | {score['seen']:.1f} | {score['held_out']:.1f} |")
    lines += [
        "",
        "The mean of the frames knows no order: left and right, growing and shrinking are the same set of frames. The",
        "random and orthogonal classifiers give a class that training never saw no place: zero-shot they guess.",
    ]
    return "\n".join(lines) + "\n"


def main(args: argparse.Namespace) -> None:
    names = args.only or list(ALL)
    unknown = sorted(set(names) - set(ALL))
    if unknown:
        raise UserError(f"--only: no variant {unknown[0]}; there are {', '.join(ALL)}")
    folders = {name: Path(args.out) / f"{name}-{args.epochs}" for name in ALL}
    for name in tqdm(names, unit="variant", disable=None):
        if not is_done(folders[name]):
            measure(name, args.epochs, folders[name])
        score = read_scores(folders[name])
        print(f"{name}: seen {score['seen']:.1f}, held-out {score['held_out']:.1f}", flush=True)
    write_tuning_page(folders, args.epochs)
    scores = {name: read_scores(folders[name]) for name in VARIANTS if is_done(folders[name])}
    if args.page is None and len(scores) < len(VARIANTS):
        missing = ", ".join(name for name in VARIANTS if name not in scores)
        print(f"no table: {args.out} has no results of {missing}; --page FILE writes those that there are")
        return
    page = args.page or PAGE
    write_text_atomic(page, make_page(scores, args.epochs))
    print(f"table: {page}")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each training (default 5)")
    parser.add_argument("--out", default="exp/variants", help="folder of the runs")
    parser.add_argument("--page", metavar="FILE", help=f"the table; default {PAGE}, once no variant lacks results")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some of {', '.join(ALL)}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
