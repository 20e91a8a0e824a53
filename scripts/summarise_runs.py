"""Mean and deviation of the last validation over several runs.

python scripts/summarise_runs.py RUN RUN ...
"""

import argparse
import json
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from utils.cli import run_story  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.protocols import mean_and_deviation  # noqa: E402
from utils.results import format_table  # noqa: E402

FIGURES = ("top1", "top5", "mean_class")


def last_validation(run: Path) -> dict:
    path = run / "metrics.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the folders of finished runs")
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    validations = [r for r in records if r["kind"] == "val"]
    if not validations:
        raise UserError(f"{path}: holds no validation; let the run finish")
    return validations[-1]


def main(args: argparse.Namespace) -> None:
    found = {run: last_validation(Path(run)) for run in args.runs}
    rows = [("run", *FIGURES)]
    rows += [(run, *(f"{record[name]:.2f}" for name in FIGURES)) for run, record in found.items()]
    over = [mean_and_deviation([record[name] for record in found.values()]) for name in FIGURES]
    rows.append((f"mean of {len(found)}", *(f"{mean:.2f} +- {deviation:.2f}" for mean, deviation in over)))
    print(format_table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of train.py")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    sys.exit(run_story(main, parser.parse_args()))
