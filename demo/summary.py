"""The demo's closing table, summary.json and picture, from what its runs and tests left in their folders.

python -m demo.summary DEMO_FOLDER
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from PIL import Image

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from utils.cli import run_command
from utils.errors import UserError
from utils.files import write_text_atomic
from utils.results import format_table

# Folder of a test's results, and what it tested.
TESTS = {
    "transf/test_1x1": "Transf, frames, 1 view",
    "transf/test_4x3": "Transf, frames, 4 clips x 3 crops",
    "none/test_1x1": "None (mean of frames), frames, 1 view",
    "video/test_1x1": "Transf, video files (short training), 1 view",
}
NUM_STRIPS, FRAMES_A_STRIP = 6, 8
RIGHT, WRONG = "#1a7f37", "#cf222e"


def read_summary(folder: Path) -> dict:
    path = folder / "summary.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; sh scripts/run_demo.sh makes it")
    return json.loads(path.read_text(encoding="utf-8"))


def read_predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def motion_of(class_name: str) -> str:
    """`a square moving left` -> `moving left`."""
    return " ".join(class_name.split()[2:])


def accuracy_by_motion(rows: list[dict[str, str]]) -> dict[str, float]:
    motions = sorted({motion_of(row["class"]) for row in rows})
    hits = {m: [int(row["correct"]) for row in rows if motion_of(row["class"]) == m] for m in motions}
    return {m: 100 * float(np.mean(h)) for m, h in hits.items()}


def read_metrics(run_dir: Path, kind: str, value: str) -> tuple[list[int], list[float]]:
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [r for r in map(json.loads, lines) if r["kind"] == kind]
    return [r["step"] for r in records], [r[value] for r in records]


def film_strip(folder: Path) -> np.ndarray:
    """Some of a clip's frames side by side, uint8 (H, W, 3)."""
    files = sorted(folder.glob("img_*.jpg"))
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, FRAMES_A_STRIP).round().astype(int)]
    return np.concatenate([np.pad(np.asarray(Image.open(f)), ((0, 0), (0, 2), (0, 0))) for f in chosen], axis=1)


def pick_strips(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Right ones, of motions and shapes as different as can be, and up to two wrong ones."""
    wrong = [row for row in rows if row["correct"] == "0"][:2]
    picks: list[dict[str, str]] = []
    motions, shapes = set(), set()
    # First clips new in both, then new in one, then any.
    for is_new in (lambda m, s: m not in motions and s not in shapes, lambda m, s: m not in motions, lambda m, s: True):
        for row in rows:
            motion, shape = motion_of(row["class"]), row["class"].split()[1]
            if len(picks) + len(wrong) < NUM_STRIPS and row["correct"] == "1" and is_new(motion, shape):
                picks.append(row)
                motions.add(motion)
                shapes.add(shape)
    return [*picks, *wrong]


def draw(demo: Path, rows: list[dict[str, str]], by_motion: dict[str, dict[str, float]]) -> Path:
    """demo.png: film strips with true and predicted class, training curves, accuracy by motion."""
    figure = plt.figure(figsize=(13, 9), layout="constrained")
    panels: Any = figure.subfigures(1, 2, width_ratios=(1.35, 1))
    left, right = panels
    for axis, row in zip(np.ravel(left.subplots(NUM_STRIPS, 1)), pick_strips(rows)):
        axis.imshow(film_strip(demo / "world" / "frames" / row["path"]))
        axis.set_axis_off()
        verdict = "right" if row["correct"] == "1" else f"wrong: it is {row['class']}"
        axis.set_title(
            f"{row['top1']}  ({float(row['prob1']):.0%})  {verdict}",
            loc="left",
            fontsize=10,
            color=RIGHT if row["correct"] == "1" else WRONG,
        )
    curve, bars = right.subplots(2, 1, height_ratios=(1, 1.2))
    draw_curves(curve, demo)
    heads = list(by_motion)
    motions = sorted(by_motion[heads[0]], key=lambda m: by_motion["None"][m])
    for offset, head in zip((0.2, -0.2), heads):
        places = np.arange(len(motions)) + offset
        bars.barh(places, [by_motion[head][m] for m in motions], height=0.38, label=f"sim_header: {head}")
    bars.set_yticks(range(len(motions)), motions)
    bars.set_xlim(0, 100)
    bars.set_xlabel("top-1 on the validation clips, %, by motion")
    bars.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    path = demo / "demo.png"
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return path


def draw_curves(axis: Axes, demo: Path) -> None:
    """Training loss (left scale) and validation top-1 (right scale) of the run with the temporal head."""
    steps, losses = read_metrics(demo / "transf", "train", "loss")
    axis.plot(steps, losses, color="0.75", linewidth=0.8)
    window = max(1, len(losses) // 40)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    axis.plot(steps[window - 1 :], smooth, color="tab:blue")
    axis.set_xlabel("optimiser step")
    axis.set_ylabel("training loss", color="tab:blue")
    axis.set_ylim(bottom=0)
    top1 = axis.twinx()
    top1.plot(*read_metrics(demo / "transf", "val", "top1"), color="tab:orange", marker="o", markersize=3)
    top1.set_ylabel("validation top-1, %", color="tab:orange")
    top1.set_ylim(0, 100)


def main(args: argparse.Namespace) -> None:
    demo = Path(args.folder)
    summaries = {name: read_summary(demo / name) for name in TESTS}
    rows = [("model", "videos", "top-1 %", "top-5 %", "videos/s")]
    for name, what in TESTS.items():
        s = summaries[name]
        rate = s["num_videos"] / s["seconds"]
        rows.append((what, str(s["num_videos"]), f"{s['top1']:.1f}", f"{s['top5']:.1f}", f"{rate:.0f}"))
    zero_shot = next(iter(read_summary(demo / "transf/zeroshot")["tests"].values()))
    rows.append(
        (
            f"Transf, zero-shot: {zero_shot['num_classes']} held-out combinations",
            str(zero_shot["num_videos"]),
            f"{zero_shot['full_top1']:.1f}",
            f"{zero_shot['full_top5']:.1f}",
            "",
        )
    )
    by_motion = {
        head: accuracy_by_motion(read_predictions(demo / folder))
        for head, folder in (("Transf", "transf/test_1x1"), ("None", "none/test_1x1"))
    }
    picture = draw(demo, read_predictions(demo / "transf/test_1x1"), by_motion)
    write_text_atomic(
        demo / "summary.json",
        json.dumps({"tests": summaries, "zero_shot": zero_shot, "top1_by_motion": by_motion}, indent=2) + "\n",
    )
    print(format_table(rows))
    print(f"\npicture: {picture}\nfigures: {demo / 'summary.json'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="exp/demo")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args()
    sys.exit(run_command(main, arguments))
