"""The demo's pictures: film strips with accuracies by motion, an animation of clips, and the method's diagram.

Colours are from Okabe and Ito's palette, which colour-blind readers can distinguish. Text is sized for a width of 700
pixels. The command draws the diagram.

Examples:
    python -m demo.pictures docs/method.png
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image, ImageDraw, ImageFont

from utils.cli import Parser, run_command
from utils.files import atomic_path

INK, GREY, RULE = "#1f2328", "#6e7781", "#d8dee4"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
NUM_RIGHT, NUM_WRONG, FRAMES_PER_STRIP = 4, 1, 6
SIDE = 160  # of a playing frame's height, in pixels
FONT: dict[str, Any] = {"family": "DejaVu Sans"}  # in every installation of matplotlib


def motion_of(class_name: str) -> str:
    """`a square moving left` -> `moving left`."""
    return " ".join(class_name.split()[2:])


Rows = list[dict[str, str]]
ByMotion = dict[str, dict[str, float]]


def draw_summary(path: Path, frames: Path, rows: Rows, by_motion: ByMotion, overall: Sequence[float]) -> None:
    """Film strips with their predictions, and the accuracy of each motion with and without the temporal head.

    Args:
        frames: folder of the clips' frame folders. rows: of predictions.csv.
        by_motion: top-1 in percent of each motion, with the head (`Transf`) and without (`None`).
        overall: top-1 in percent over all clips, with and without.
    """
    figure = Figure(figsize=(11.2, 6.5), dpi=125, facecolor="white")
    picks = pick_clips(rows)
    top, height = 0.885, 0.172
    figure.text(0.012, 0.955, "Predictions for clips that it has not seen", fontsize=19, color=INK, **FONT)
    for number, row in enumerate(picks):
        axis = figure.add_axes((0.012, top - (number + 1) * height, 0.50, height - 0.052))
        axis.imshow(film_strip(frames / row["path"]), aspect="equal")
        axis.set_anchor("W")
        axis.set_axis_off()
        is_right = row["correct"] == "1"
        mark, colour = ("\u2713", GREEN) if is_right else ("\u2717", ORANGE)
        prediction = f"{row['top1']}, {float(row['prob1']):.0%}"
        if not is_right:
            prediction += f"   (it is {row['class']})"
        y = top - number * height - 0.044
        figure.text(0.012, y, mark, fontsize=17, color=colour, weight="bold", **FONT)
        figure.text(0.034, y, prediction, fontsize=15.5, color=INK if is_right else ORANGE, **FONT)
    figure.text(0.575, 0.955, "Motion needs the temporal head", fontsize=19, color=INK, **FONT)
    figure.text(0.575, 0.905, "top-1 in % of the validation clips, by motion", fontsize=14, color=GREY, **FONT)
    _draw_motions(figure.add_axes((0.72, 0.055, 0.255, 0.78)), by_motion, overall)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_motions(axis: Axes, by_motion: dict[str, dict[str, float]], overall: Sequence[float]) -> None:
    """A line for each motion, from the accuracy of the mean of frames to that of the temporal head."""
    with_head, without = by_motion["Transf"], by_motion["None"]
    motions = sorted(with_head, key=lambda motion: with_head[motion] - without[motion])
    pairs = [(motion, without[motion], with_head[motion]) for motion in motions]
    pairs.append(("all clips", overall[1], overall[0]))
    for place, (name, low, high) in enumerate(pairs):
        is_total = name == "all clips"
        place += 0.5 * is_total
        axis.plot([low, high], [place, place], color=RULE, linewidth=5, solid_capstyle="round", zorder=1)
        axis.scatter([low], [place], s=130, color=ORANGE, zorder=2)
        axis.scatter([high], [place], s=130, color=BLUE, zorder=2)
        weight = "bold" if is_total else "normal"
        axis.text(-6, place, name, ha="right", va="center", fontsize=15.5, color=INK, weight=weight, **FONT)
        for value, colour, side in ((low, ORANGE, -1), (high, BLUE, 1)):
            style: dict[str, Any] = {"ha": "left" if side > 0 else "right", "va": "center", **FONT}
            axis.text(value + 4.5 * side, place, f"{value:.0f}", fontsize=14, color=colour, weight=weight, **style)
    last = len(pairs) - 0.5
    axis.text(overall[1], last + 0.55, "mean of frames", ha="center", fontsize=13, color=ORANGE, **FONT)
    axis.text(overall[0], last + 0.55, "temporal head", ha="center", fontsize=13, color=BLUE, **FONT)
    axis.set_xlim(-4, 112)
    axis.set_ylim(-0.6, last + 1.1)
    axis.set_axis_off()


def pick_clips(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Correct predictions of various motions and shapes, then the most confident mistake."""
    wrong = sorted((row for row in rows if row["correct"] == "0"), key=lambda row: -float(row["prob1"]))[:NUM_WRONG]
    picks: list[dict[str, str]] = []
    motions, shapes = set(), set()
    # First clips new in both, then new in one, then any.
    for is_new in (lambda m, s: m not in motions and s not in shapes, lambda m, s: m not in motions, lambda m, s: True):
        for row in rows:
            motion, shape = motion_of(row["class"]), row["class"].split()[1]
            if len(picks) < NUM_RIGHT and row["correct"] == "1" and is_new(motion, shape):
                picks.append(row)
                motions.add(motion)
                shapes.add(shape)
    return [*picks, *wrong]


def frame_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("img_*.jpg"))


def film_strip(folder: Path) -> np.ndarray:
    """Evenly spaced frames of a clip side by side, uint8 (H, W, 3)."""
    files = frame_files(folder)
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, FRAMES_PER_STRIP).round().astype(int)]
    white = {"mode": "constant", "constant_values": 255}
    strip = [np.pad(np.asarray(Image.open(file)), ((0, 0), (0, 3), (0, 0)), **white) for file in chosen]
    return np.concatenate(strip, axis=1)[:, :-3]


def animate(path: Path, frames: Path, rows: list[dict[str, str]]) -> None:
    """Write a WebP animation of clips beside their three most likely classes."""
    pictures = []
    for row in pick_clips(rows):
        panel = _answer_panel(row)
        for file in frame_files(frames / row["path"]):
            frame = Image.open(file).convert("RGB")
            frame = frame.resize((round(frame.width * SIDE / frame.height), SIDE), Image.Resampling.LANCZOS)
            picture = Image.new("RGB", (frame.width + panel.width, SIDE), "white")
            picture.paste(frame, (0, 0))
            picture.paste(panel, (frame.width, 0))
            pictures.append(picture)
    with atomic_path(path) as temporary:
        options: dict[str, Any] = {"save_all": True, "append_images": pictures[1:], "duration": 90, "loop": 0}
        pictures[0].save(temporary, format="WEBP", quality=60, method=4, **options)


def _answer_panel(row: dict[str, str]) -> Image.Image:
    """The three most likely classes of a clip with bars, 440 x SIDE pixels; the true class is blue."""
    panel = Image.new("RGB", (440, SIDE), "white")
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(17)
    for rank in (1, 2, 3):
        name, probability = row[f"top{rank}"], float(row[f"prob{rank}"])
        top = 14 + (rank - 1) * 47
        draw.text((20, top), name, fill=INK, font=font)
        draw.text((420, top), f"{probability:.0%}", fill=INK, font=font, anchor="ra")
        draw.rounded_rectangle((20, top + 24, 420, top + 33), radius=4, fill=RULE)
        if probability >= 0.01:
            colour = BLUE if name == row["class"] else GREY
            end = 20 + max(9, round(400 * probability))
            draw.rounded_rectangle((20, top + 24, end, top + 33), radius=4, fill=colour)
    return panel


def draw_method(path: Path) -> None:
    """The diagram: frames, image tower, temporal head, one point; class texts, text tower, K points; cosine."""
    figure = Figure(figsize=(12.5, 4.65), dpi=112, facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_xlim(0, 140)
    axis.set_ylim(0, 52)
    axis.set_axis_off()
    for number, colour in enumerate(("#dbe9f4", "#c5dcee", "#aecfe7", "#98c2e1")):
        _box(axis, (3 + 2.2 * number, 27 - 1.6 * number, 13, 13), colour, BLUE)
    axis.text(12.8, 43, "T frames", ha="center", fontsize=16, color=INK, **FONT)
    _box(axis, (32, 24, 22, 16), "#dbe9f4", BLUE, "image tower", "trained, or frozen\nwith adapters")
    for number in range(4):
        _box(axis, (65 + 3.4 * number, 26, 2.2, 12), "#98c2e1", BLUE)
    axis.text(71.3, 21.5, "T embeddings", ha="center", fontsize=13, color=GREY, **FONT)
    _box(axis, (87, 24, 20, 16), "#dbe9f4", BLUE, "temporal head", "order of frames")
    _box(axis, (115, 26, 2.6, 12), BLUE, BLUE)
    axis.text(116.3, 41, "video", ha="center", fontsize=14, color=INK, **FONT)
    names = ("riding a bike", "tai chi", "cooking")
    for number, name in enumerate(names):
        _box(axis, (3, 12.3 - 5 * number, 21, 4), "#fbe6d9", ORANGE, name)
    _box(axis, (32, 2.3, 22, 14), "#fbe6d9", ORANGE, "text tower", "frozen")
    for number in range(3):
        _box(axis, (65, 12.6 - 4.6 * number, 12, 2.6), "#eea47a", ORANGE)
    axis.text(78.4, 9.3, "K class\nembeddings", va="center", fontsize=13, color=GREY, **FONT)
    _box(axis, (110, 3.3, 27, 12), "white", INK, "cosine", "the text is the classifier")
    for start, end in ((22.6, 32), (54, 65), (77.4, 87), (107, 115)):
        _arrow(axis, (start + 0.6, 32), (end - 0.6, 32), BLUE)
    for start, end in ((24, 32), (54, 65), (92, 110)):
        _arrow(axis, (start + 0.6, 9.3), (end - 0.6, 9.3), ORANGE)
    _arrow(axis, (116.3, 25.4), (116.3, 16.6), BLUE)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _box(
    axis: Axes, place: tuple[float, float, float, float], fill: str, edge: str, title: str = "", note: str = ""
) -> None:
    """A rounded box at (x, y, width, height) with a title and a smaller note."""
    x, y, width, height = place
    rounding = min(1.2, width / 3, height / 3)
    shape = f"round,pad=0,rounding_size={rounding}"
    axis.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, facecolor=fill, edgecolor=edge, linewidth=1.6))
    middle = x + width / 2, y + height / 2
    lines = note.count("\n") + 1 if note else 0
    size = 15.5 if height > 6 else 13.5
    axis.text(middle[0], middle[1] + 1.6 * lines, title, ha="center", va="center", fontsize=size, color=INK, **FONT)
    axis.text(middle[0], middle[1] - 2.2, note, ha="center", va="center", fontsize=13, color=GREY, **FONT)


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=18, linewidth=1.8, color=colour))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("out", type=Path, metavar="FILE", help="the picture to write")
    return parser.parse_args(arguments)


def main(args: argparse.Namespace) -> None:
    draw_method(args.out)


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
