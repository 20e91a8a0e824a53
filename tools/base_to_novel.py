"""Base-to-novel generalisation: trains on the more frequent half of the classes and tests on both halves.

The protocol of ViFi-CLIP (arXiv 2212.03640): the base classes are the half of the classes with the most training
videos; the model is trained on --shot videos of each, once per seed; base and novel classes are tested separately; the
harmonic mean is 2 b n / (b + n).

OUT/lists has the lists and class files of both halves, OUT/seed<S> the runs and their tests test_base and
test_novel, OUT/base_to_novel.json the scores. Finished runs and tests are skipped. scripts/run_train.sh and
run_test.sh are used, and NPROC and PYTHON have the same effect.

Examples:
    python -m tools.base_to_novel --config configs/ucf101/ucf_k400_finetune.yaml --out exp/base_to_novel
    python -m tools.base_to_novel --config my.yaml --out exp/b2n --seeds 1,2,3 --shot 16 pretrain=exp/k400/last_model.pt
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.build import read_entries
from datasets.entries import ListEntry
from datasets.lists import MIN_TRAIN_FRAMES, pick_few_shot, read_labels
from tools import series
from utils.cli import check_counts, config_parser, run_command
from utils.config import load_config
from utils.csv_files import csv_text
from utils.errors import UserError
from utils.files import check_writable, write_text_atomic
from utils.hashing import file_hash
from utils.project_paths import given
from utils.protocols import base_classes, check_single_label, harmonic_mean, mean_and_deviation
from utils.records import Keys, read_json
from utils.results import format_table, next_command, write_summary
from utils.schema import Config


class Half(NamedTuple):
    """One half of the classes: their number, and its files."""

    num_classes: int
    label_list: Path
    val_list: Path

    @property
    def overrides(self) -> list[str]:
        return [f"data.{name}={value}" for name, value in self._asdict().items()]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument("--seeds", default="1,2,3", metavar="S,S", help="seeds of the training videos (default 1,2,3)")
    parser.add_argument("--shot", type=int, default=16, metavar="K", help="training videos per base class (default 16)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of lists, runs and scores")
    return parser.parse_intermixed_args(arguments)


def write_once(path: Path, text: str) -> None:
    """Write a file. Raises a UserError if it exists with other contents, which runs may have used."""
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UserError(f"{path}: was created from other lists, classes or options; choose another --out")
    write_text_atomic(path, text)


def lines_of(entries: Sequence[ListEntry], classes: Sequence[int]) -> str:
    """The entries of some classes as lines of a list, with class ids renumbered in their order."""
    new_ids = {class_id: new_id for new_id, class_id in enumerate(classes)}
    kept = [entry._replace(label=new_ids[entry.label]) for entry in entries if entry.label in new_ids]
    return "".join(f"{entry.text}\n" for entry in kept)


def write_lists(cfg: Config, folder: Path, seeds: Sequence[int], shot: int) -> dict[str, Half]:
    """Write the lists and class files of both halves, and the training list of each seed, `train_seed<S>.txt`."""
    names = read_labels(given(cfg.data.label_list), cfg.data.num_classes)
    train, val = (read_entries(cfg, given(path)) for path in (cfg.data.train_list, cfg.data.val_list))
    base = base_classes(train.labels, len(names))
    halves = {}
    novel = [class_id for class_id in range(len(names)) if class_id not in base]
    for name, classes in (("base", base), ("novel", novel)):
        half = Half(len(classes), folder / f"{name}_labels.csv", folder / f"val_{name}.txt")
        write_once(half.label_list, csv_text(("id", "name"), enumerate(names[class_id] for class_id in classes)))
        val_lines = lines_of(val, classes)
        if not val_lines:
            raise UserError(f"{cfg.data.val_list}: has no video of the {name} classes")
        write_once(half.val_list, val_lines)
        halves[name] = half
    # If num_frames is 0, training counts the frames and leaves out short entries.
    has_enough = (train.num_frames <= 0) | (train.num_frames >= MIN_TRAIN_FRAMES)
    usable = train[has_enough & np.isin(train.labels, base)]
    for seed in seeds:
        picks = pick_few_shot(usable.labels, shot, seed)
        write_once(folder / f"train_seed{seed}.txt", lines_of(usable[picks], base))
    return halves


class HalfSummary(Keys):
    """The keys of a test's summary.json that are read here."""

    weights_hash: str
    top1: float


def read_summary(path: Path) -> dict[str, Any]:
    """summary.json of a test. Raises a UserError if it is corrupted."""
    return read_json(path, "the summary of a test", "remove it to test again", HalfSummary)


def test(args: argparse.Namespace, weights: Path, half: Half, out: Path) -> int:
    """Test a checkpoint on one half of the classes, unless already done; returns the exit code."""
    summary = out / "summary.json"
    if summary.is_file() and read_summary(summary)["weights_hash"] == file_hash(str(weights)):
        return 0
    return series.launch("run_test.sh", str(weights), "--out", str(out), *half.overrides, *series.shown(args))


def main(args: argparse.Namespace) -> int:
    seeds = series.whole_numbers("--seeds", args.seeds, 0)
    check_counts(args, "shot")
    series.check_overrides(args.overrides, ("data.shot", "data.shot_seed"))
    cfg = load_config(args.config, [*args.overrides, "data.shot=0"], "train").config
    check_single_label(cfg, "base-to-novel")
    if cfg.data.sets:
        raise UserError("data.sets: base-to-novel needs one data set; use its lists")
    if cfg.data.flip > 0 and (cfg.data.flip_pairs or "something" in cfg.data.dataset.lower()):
        raise UserError("data.flip_pairs: base-to-novel renumbers classes; set data.flip=0 data.flip_pairs=null")
    series.check_equally_long(cfg)
    if cfg.data.num_classes < 2:
        raise UserError("data.num_classes: base-to-novel needs at least two classes")
    out = Path(args.out).resolve()
    check_writable(out, "--out", is_folder=True)
    halves = write_lists(cfg, out / "lists", seeds, args.shot)

    scores: dict[str, list[float]] = {name: [] for name in halves}
    for seed in seeds:
        folder = out / f"seed{seed}"
        train_list = f"data.train_list={out / 'lists' / f'train_seed{seed}.txt'}"
        overrides = [*args.overrides, "data.shot=0", train_list, *halves["base"].overrides]
        if code := series.train(args, folder, overrides):
            return code
        for name, half in halves.items():
            test_folder = folder / f"test_{name}"
            if code := test(args, folder / "last_model.pt", half, test_folder):
                return code
            scores[name].append(read_summary(test_folder / "summary.json")["top1"])

    scores["harmonic"] = [harmonic_mean(base, novel) for base, novel in zip(scores["base"], scores["novel"])]
    rows: list[tuple[str, ...]] = [("seed", "base top-1 %", "novel top-1 %", "harmonic mean")]
    for seed, *values in zip(seeds, *scores.values()):
        rows.append((str(seed), *(f"{value:.2f}" for value in values)))
    means = {name: mean_and_deviation(values) for name, values in scores.items()}
    rows.append((f"mean of {len(seeds)}", *(f"{mean:.2f} +- {deviation:.2f}" for mean, deviation in means.values())))
    print(format_table(rows))
    of_means = harmonic_mean(means["base"][0], means["novel"][0])
    print(f"harmonic mean of the mean scores, as in published tables: {of_means:.2f}")
    write_summary(out / "base_to_novel.json", seeds=seeds, **scores, harmonic_of_means=of_means, shot=args.shot)
    print(next_command("python", "report.py", str(out / f"seed{seeds[0]}")))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
