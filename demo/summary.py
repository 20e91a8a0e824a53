"""Writes the demo's table of results, summary.json and pictures from the results of its runs and tests.

Examples:
    python -m demo.summary exp/demo
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from demo.pictures import animate, draw_summary, motion_of
from utils.cli import Parser, run_command
from utils.csv_files import read_csv
from utils.errors import UserError
from utils.records import read_json
from utils.results import format_table, write_summary

# Folder of a test's results, and what it tested.
TESTS = {
    "transf/test_1x1": "Transf, frames, 1 view",
    "transf/test_4x3": "Transf, frames, 4 clips x 3 crops",
    "none/test_1x1": "None (mean of frames), frames, 1 view",
    "video/test_1x1": "Transf, video files (short training), 1 view",
}


PREDICTION_COLUMNS = ("path", "class", "correct", "top1")
AGAIN = "run 'sh scripts/run_demo.sh' to create it"


def read_summary(folder: Path) -> dict:
    path = folder / "summary.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; {AGAIN}")
    return read_json(path, "the summary of a test", AGAIN)


def accuracy_by_motion(rows: list[dict[str, str]]) -> dict[str, float]:
    hits: dict[str, list[int]] = {}
    for row in rows:
        hits.setdefault(motion_of(row["class"]), []).append(int(row["correct"]))
    return {motion: 100 * float(np.mean(hits[motion])) for motion in sorted(hits)}


def main(args: argparse.Namespace) -> None:
    demo = Path(args.folder)
    summaries = {name: read_summary(demo / name) for name in TESTS}
    rows: list[tuple[str, ...]] = [("model", "videos", "top-1 %", "top-5 %", "videos/s")]
    for name, title in TESTS.items():
        summary = summaries[name]
        rate = summary["num_videos"] / summary["seconds"]
        top1, top5 = f"{summary['top1']:.1f}", f"{summary['top5']:.1f}"
        rows.append((title, str(summary["num_videos"]), top1, top5, f"{rate:.0f}"))
    zero_shot = next(iter(read_summary(demo / "transf/zeroshot")["tests"].values()))
    title = f"Transf, zero-shot: {zero_shot['num_classes']} held-out combinations"
    top1, top5 = f"{zero_shot['full_top1']:.1f}", f"{zero_shot['full_top5']:.1f}"
    rows.append((title, str(zero_shot["num_videos"]), top1, top5, ""))
    heads = {"Transf": "transf/test_1x1", "None": "none/test_1x1"}
    by_head = {
        head: read_csv(demo / folder / "predictions.csv", PREDICTION_COLUMNS, AGAIN) for head, folder in heads.items()
    }
    by_motion = {head: accuracy_by_motion(predictions) for head, predictions in by_head.items()}
    predictions = by_head["Transf"]
    picture, animation = demo / "demo.png", demo / "demo.webp"
    overall = [summaries[folder]["top1"] for folder in heads.values()]
    draw_summary(picture, demo / "world" / "frames", predictions, by_motion, overall)
    animate(animation, demo / "world" / "frames", predictions)
    write_summary(demo / "summary.json", tests=summaries, zero_shot=zero_shot, top1_by_motion=by_motion)
    print(format_table(rows))
    print(f"\npicture: {picture}\nanimation: {animation}\nscores: {demo / 'summary.json'}")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("folder", help="exp/demo")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
