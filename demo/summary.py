"""Writes the demo's table of results, summary.json and pictures from the results of its runs and tests.

Examples:
    python -m demo.summary exp/demo
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from demo.pictures import animate, draw_summary, motion_of
from utils.cli import Parser, run_command
from utils.csv_files import read_csv
from utils.errors import UserError
from utils.results import format_table, write_summary

# Folder of a test's results, and what it tested.
TESTS = {
    "transf/test_1x1": "Transf, frames, 1 view",
    "transf/test_4x3": "Transf, frames, 4 clips x 3 crops",
    "none/test_1x1": "None (mean of frames), frames, 1 view",
    "video/test_1x1": "Transf, video files (short training), 1 view",
}


def read_summary(folder: Path) -> dict:
    path = folder / "summary.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run 'sh scripts/run_demo.sh' to create it")
    return json.loads(path.read_text(encoding="utf-8"))


def accuracy_by_motion(rows: list[dict[str, str]]) -> dict[str, float]:
    motions = sorted({motion_of(row["class"]) for row in rows})
    hits = {m: [int(row["correct"]) for row in rows if motion_of(row["class"]) == m] for m in motions}
    return {m: 100 * float(np.mean(h)) for m, h in hits.items()}


def main(args: argparse.Namespace) -> None:
    demo = Path(args.folder)
    summaries = {name: read_summary(demo / name) for name in TESTS}
    rows: list[tuple[str, ...]] = [("model", "videos", "top-1 %", "top-5 %", "videos/s")]
    for name, what in TESTS.items():
        s = summaries[name]
        rate = s["num_videos"] / s["seconds"]
        rows.append((what, str(s["num_videos"]), f"{s['top1']:.1f}", f"{s['top5']:.1f}", f"{rate:.0f}"))
    zero_shot = next(iter(read_summary(demo / "transf/zeroshot")["tests"].values()))
    what = f"Transf, zero-shot: {zero_shot['num_classes']} held-out combinations"
    figures = (f"{zero_shot[name]:.1f}" for name in ("full_top1", "full_top5"))
    rows.append((what, str(zero_shot["num_videos"]), *figures, ""))
    heads = {"Transf": "transf/test_1x1", "None": "none/test_1x1"}
    by_head = {head: read_csv(demo / folder / "predictions.csv") for head, folder in heads.items()}
    by_motion = {head: accuracy_by_motion(found) for head, found in by_head.items()}
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
