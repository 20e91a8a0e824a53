"""Trains variants of the model on the demo's clips, and writes a table of their scores.

Needs the clips that scripts/run_demo.sh renders. Finished variants are skipped. The table has a row for each variant
with results in --out; docs/variants.md is written when all are finished.

Examples:
    python -m tools.compare_variants
    python -m tools.compare_variants --epochs 2 --out exp/try --only transf none
"""

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from tools.comparison import chosen_names, of_test, run
from utils.cli import Parser, run_command
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.project_paths import REPOSITORY
from utils.records import read_records

WORLD = "exp/demo/world"
PAGE = "docs/variants.md"
MEAN, HEAD = "network.sim_header=None", "network.sim_header=Transf"
# Name -> (description, overrides of configs/shapes/transf.yaml).
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


def measure(name: str, epochs: int, folder: Path) -> None:
    """Train and test one variant into `folder`."""
    if not (REPOSITORY / WORLD).exists():
        raise UserError(f"{WORLD}: no such folder; render it: python -m demo.make_shapes_world {WORLD}")
    overrides = VARIANTS[name][1]
    run(
        "train.py", "--config", "configs/shapes/transf.yaml", *overrides, f"solver.epochs={epochs}",
        f"logging.run_dir={folder}", "logging.eval_freq=100", "logging.tensorboard=false", "resume=auto",
    )  # fmt: skip
    run(
        "test_zeroshot.py", "--config", "configs/shapes/zeroshot.yaml", "--weights", str(folder / "last_model.pt"),
        "--out", str(folder / "zeroshot"), *of_test(overrides),
    )  # fmt: skip


def is_done(folder: Path) -> bool:
    return (folder / "zeroshot" / "summary.json").exists()


def read_scores(folder: Path) -> dict[str, float]:
    """Top-1 of a finished variant on the validation clips of the seen classes and on the held-out combinations."""
    records = read_records(folder / "metrics.jsonl", f"remove {folder} to measure again")
    seen = [record for record in records if record["kind"] == "val"][-1]["top1"]
    tests = json.loads((folder / "zeroshot" / "summary.json").read_text(encoding="utf-8"))["tests"]
    return {"seen": seen, "held_out": next(iter(tests.values()))["full_top1"]}


def make_page(scores: dict[str, dict[str, float]], epochs: int) -> str:
    lines = [
        "# Variants on the demo's data",
        "",
        f"Top-1 in percent after {epochs} epochs, one view: on the validation clips of the 32 seen classes, and",
        "zero-shot on the 8 held-out combinations of shape and motion (chance: 12.5). One seed, with the recipe",
        "of `configs/shapes/transf.yaml`. Made by `python -m tools.compare_variants` on a CPU.",
        "",
        "| variant | overrides | seen classes | held-out combinations |",
        "| --- | --- | --- | --- |",
    ]
    for name, score in scores.items():
        what, overrides = VARIANTS[name]
        lines.append(f"| {what} | `{' '.join(overrides)}` | {score['seen']:.1f} | {score['held_out']:.1f} |")
    lines += [
        "",
        "The mean of the frames ignores their order, so it cannot distinguish left from right or growing from",
        "shrinking. Random and orthogonal classifiers know nothing about classes that are not in the training set:",
        "zero-shot they are at chance.",
    ]
    return "\n".join(lines) + "\n"


def main(args: argparse.Namespace) -> None:
    names = chosen_names(args.only, VARIANTS, "variant")
    folders = {name: Path(args.out) / f"{name}-{args.epochs}" for name in VARIANTS}
    for name in tqdm(names, unit="variant", disable=None):
        if not is_done(folders[name]):
            measure(name, args.epochs, folders[name])
        score = read_scores(folders[name])
        print(f"{name}: seen {score['seen']:.1f}, held-out {score['held_out']:.1f}", flush=True)
    scores = {name: read_scores(folders[name]) for name in VARIANTS if is_done(folders[name])}
    if args.page is None and len(scores) < len(VARIANTS):
        missing = ", ".join(name for name in VARIANTS if name not in scores)
        print(f"no table: {args.out} has no results of {missing}; use --page FILE to write the others")
        return
    page = args.page or PAGE
    write_text_atomic(page, make_page(scores, args.epochs))
    print(f"table: {page}")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each training (default 5)")
    parser.add_argument("--out", default="exp/variants", help="folder of the runs")
    parser.add_argument("--page", metavar="FILE", help=f"the table; default {PAGE}, once no variant lacks results")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some of {', '.join(VARIANTS)}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
