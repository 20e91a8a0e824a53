"""Prints mean and standard deviation of the last validation over several finished runs of the same length.

Examples:
    python -m tools.summarise_runs exp/few_shot/seed0 exp/few_shot/seed1 exp/few_shot/seed2
"""

import argparse
import math
import sys
from pathlib import Path

from utils.cli import Parser, run_command
from utils.config import load_config
from utils.errors import UserError
from utils.protocols import mean_and_deviation
from utils.records import read_records
from utils.results import format_table, next_test

FIGURES = ("top1", "top5", "mean_class")


def score_names(validation: dict) -> tuple[str, ...]:
    """The scores of a validation, which depend on whether the list is multi-label."""
    return ("map",) if "map" in validation else FIGURES


def last_validation(run: Path) -> dict:
    """The record of the validation after the last epoch of a run. Raises a UserError if there is none."""
    path, config_path = run / "metrics.jsonl", run / "config.yaml"
    for needed in (path, config_path):
        if not needed.is_file():
            raise UserError(f"{needed}: no such file; give the folders of finished runs")
    records = read_records(path, "give the folders of finished runs")
    validations = [r for r in records if r["kind"] == "val"]
    if not validations:
        raise UserError(f"{path}: contains no validation; let the run finish")
    epoch, epochs = validations[-1]["epoch"], load_config(config_path, purpose="predict").config.solver.epochs
    if epoch < epochs:
        raise UserError(f"{path}: its last validation is after epoch {epoch} of {epochs}; let the run finish")
    for name in score_names(validations[-1]):
        score = validations[-1].get(name)
        if score is None or not math.isfinite(score):
            raise UserError(f"{path}: its last validation has no {name}; leave this run out, or train it again")
    return validations[-1]


def table_rows(validations: dict[str, dict], mean_title: str) -> list[tuple[str, ...]]:
    """A row for each validation, by its title, and one with mean and population deviation of their scores. Raises a
    UserError unless all validations have the same scores, after the same epoch."""
    first, *_ = validations
    epoch = validations[first]["epoch"]
    names = score_names(validations[first])
    rows = []
    for run, record in validations.items():
        if record["epoch"] != epoch:
            raise UserError(
                f"{run}: ended with epoch {record['epoch']}, and {first} with {epoch}; all runs must have the same "
                "number of epochs"
            )
        if score_names(record) != names:
            raise UserError(
                f"{run}: its scores are {', '.join(score_names(record))}, and those of {first} "
                f"{', '.join(names)}; give runs that are all multi-label, or none"
            )
        rows.append((run, *(f"{record[name]:.2f}" for name in names)))
    means = [mean_and_deviation([record[name] for record in validations.values()]) for name in names]
    return [*rows, (mean_title, *(f"{mean:.2f} +- {deviation:.2f}" for mean, deviation in means))]


def main(args: argparse.Namespace) -> None:
    folders = [Path(run).resolve() for run in args.runs]
    for number, folder in enumerate(folders):
        if folder in folders[:number]:
            raise UserError(f"{args.runs[number]}: given twice; remove one")
    validations = {run: last_validation(Path(run)) for run in args.runs}
    rows = table_rows(validations, f"mean of {len(validations)}")
    print(format_table([("run", *score_names(validations[args.runs[0]])), *rows]))
    print(next_test({Path(run): record for run, record in validations.items()}))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of train.py")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
