"""Plots of a prediction: film strips with the top classes, and the classes over time.

Legend: T frames, C=3 channels, S side of a frame in pixels, K classes. PNG files are written atomically.
"""

import functools
import logging
import re
import textwrap
import warnings
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from inference.timeline import MAX_STRIPS, UNKNOWN, VideoPrediction, clock, spread
from modules.attribution import ShownClip
from utils.files import atomic_path

MAX_FRAMES_PER_STRIP = 8
MAX_TIMELINE_CLASSES = 12
MAX_BARS = 20
"""Maximum number of classes per clip; tables and files are not limited."""
NAME_WIDTH = 30
"""Maximum number of characters of a class name or half a title."""
BAR, BAR_REST, UNKNOWN_BAR = "#1a62b4", "#a9c4e3", "#8c8c8c"
AGAINST, NOTE = "#b1480b", "#57606a"  # orange, as in reports
BAR_ROW = 0.7
"""Height of the bars below a film strip, in frames."""
UNKNOWN_BLOCK, OTHER_BLOCK = "#d0d0d0", "#6e7781"
_DPI = 110
log = logging.getLogger(__name__)


def draw_strips(path: str | Path, prediction: VideoPrediction, k: int = 5) -> None:
    """Plot film strips of up to six windows, each with bars of its top k classes (at most 20).

    Clips of `VideoModel.explained` are also shown with the regions that support the top class, and what each frame
    contributes to its log-odds.
    """
    clips = spread(prediction.clips, MAX_STRIPS)
    k = min(k, len(prediction.class_names), MAX_BARS)
    rows = 1 + (clips[0][1].lit is not None) + BAR_ROW * (clips[0][1].contributions is not None)  # in frames
    num_shown = min(MAX_FRAMES_PER_STRIP, len(clips[0][1].frames))
    side = min(1.35, 7.8 / num_shown)  # of a frame, in inches
    height = max(side * rows + 0.6, 0.27 * k + 0.6)
    figure = Figure(figsize=(13.5, height * len(clips) + 0.45), dpi=_DPI, layout="constrained")
    figure.suptitle(_cut(prediction.source, 100, from_end=True), x=0.01, ha="left", fontsize=11)
    grid = figure.subplots(len(clips), 2, width_ratios=(num_shown * side, 13 - num_shown * side), squeeze=False)
    for (number, clip), (strip, bars) in zip(clips, grid):
        start, end = prediction.spans[number]
        name, probability = prediction.verdict(number)
        strip.set_title(
            f"{clock(start)} - {clock(end)}   {_cut(name, 60)}  {probability:.0%}",
            loc="left",
            fontsize=10,
            color=UNKNOWN_BAR if name == UNKNOWN else "black",
        )
        _draw_film(strip, clip, _cut(prediction.top(1, number)[0][0], 40))
        _draw_bars(bars, prediction.top(k, number), name == UNKNOWN, prediction.threshold)
    _save(path, figure)


def _draw_film(axis: Axes, clip: ShownClip, name: str) -> None:
    """The frames, the same frames with the regions that support a class, and the contribution of each frame."""
    films = [_film(frames.numpy()) for frames in (clip.frames, clip.lit) if frames is not None]
    side, width = films[0].shape[:2]
    gap = max(1, side // 40)
    white = np.full((gap, width, 3), 255, np.uint8)
    film = np.concatenate([row for shown in films for row in (shown, white)][:-1])
    axis.imshow(film, aspect="equal")
    axis.set_anchor("NW")
    axis.set_axis_off()
    notes = [f"second row: highlighted where it supports {name}"] if clip.lit is not None else []
    bottom = len(film)
    if bars := spread(clip.bars(), MAX_FRAMES_PER_STRIP):
        notes.append(f"bars: contribution of each frame to {'its log-odds' if notes else f'the log-odds of {name}'}")
        zero, bottom = bottom + 0.25 * side, bottom + BAR_ROW * side
        for place, (share, nats) in enumerate(bars):
            middle = place * (side + gap) + side / 2
            colour = BAR if share > 0 else AGAINST
            axis.bar(middle, -0.2 * side * share, 0.8 * side, zero, color=colour)
            axis.text(middle, bottom, nats, ha="center", va="bottom", fontsize=8.5, color=NOTE)
    axis.set_xlim(-0.5, width - 0.5)
    axis.set_ylim(bottom - 0.5, -0.5)
    axis.text(0, -0.02, "; ".join(notes), transform=axis.transAxes, va="top", fontsize=8.5, color=NOTE)


def draw_timeline(path: str | Path, prediction: VideoPrediction) -> None:
    """The segments as a coloured band, and below it the probability of the leading classes over time."""
    names, shares = prediction.class_names, prediction.shares()
    rows = _leading_classes(prediction)
    figure = Figure(figsize=(13.5, 2.2 + 0.34 * len(rows)), dpi=_DPI, layout="constrained")
    figure.suptitle(_cut(prediction.source, 100, from_end=True), x=0.01, ha="left", fontsize=11)
    band, heat = figure.subplots(2, 1, sharex=True, height_ratios=(1.1, 0.34 * len(rows) + 0.4))
    colour_of = {names[c]: matplotlib.colormaps["tab20"](place % 20) for place, c in enumerate(rows)}
    _draw_band(band, prediction, colour_of)
    edges = np.r_[shares[:, 0], shares[-1, 1]]
    mesh = heat.pcolormesh(
        edges, np.arange(len(rows) + 1) - 0.5, prediction.probabilities[:, rows].T, cmap="Blues", vmin=0, vmax=1
    )
    heat.set_yticks(range(len(rows)), [_cut(names[c], NAME_WIDTH) for c in rows])
    heat.tick_params(axis="y", length=0, pad=14)
    for place, c in enumerate(rows):  # the colour of each class in the band above
        swatch = Rectangle((-0.009, place - 0.28), 0.006, 0.56, transform=heat.get_yaxis_transform(), clip_on=False)
        swatch.set_facecolor(colour_of[names[c]])
        heat.add_patch(swatch)
    heat.set_ylim(len(rows) - 0.5, -0.5)
    heat.set_xlim(edges[0], edges[-1])
    heat.xaxis.set_major_locator(MaxNLocator(9, steps=(1, 1.5, 3, 6, 10)))  # round minutes
    heat.xaxis.set_major_formatter(lambda seconds, _: clock(max(0, seconds)).removesuffix(".0"))
    heat.set_xlabel("time")
    figure.colorbar(mesh, ax=heat, label="probability", pad=0.01, fraction=0.03)
    _save(path, figure)


def _draw_band(axis: Axes, prediction: VideoPrediction, colour_of: dict) -> None:
    """One block per segment, with its class name if there is space."""
    start, end = prediction.spans[0, 0], prediction.spans[-1, 1]
    for segment in prediction.segments:
        width = segment.end - segment.start
        colour = colour_of.get(segment.class_name, UNKNOWN_BLOCK if segment.class_name == UNKNOWN else OTHER_BLOCK)
        axis.barh(0, width, left=segment.start, height=1, color=colour, edgecolor="white", linewidth=1)
        # About 120 characters of this size fit into the whole width.
        columns = int(110 * width / (end - start))
        lines = textwrap.wrap(segment.class_name, max(1, columns), break_long_words=False)
        if columns >= 6 and len(lines) <= 3 and all(len(line) <= columns for line in lines):
            is_dark = np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) < 0.55
            axis.text(
                segment.start + width / 2,
                0,
                "\n".join(lines),
                ha="center",
                va="center",
                fontsize=9,
                color="white" if is_dark else "black",
            )
    shown = {segment.class_name for segment in prediction.segments}
    notes = [f"light grey: {UNKNOWN} (below {prediction.threshold:g})"] if UNKNOWN in shown else []
    notes += ["dark grey: classes without a row"] if shown - {UNKNOWN, *colour_of} else []
    axis.set_title(", ".join(notes), loc="right", fontsize=9)
    axis.set_ylim(-0.5, 0.5)
    axis.set_axis_off()


def _leading_classes(prediction: VideoPrediction) -> list[int]:
    """At most 12 classes: the top classes of windows, most frequent first, then by mean probability."""
    mean, best = prediction.mean_probabilities, prediction.probabilities.argmax(axis=1)
    time = np.bincount(best, weights=np.diff(prediction.shares())[:, 0], minlength=len(mean))
    order = np.lexsort((-mean, -time))
    wanted = min(MAX_TIMELINE_CLASSES, max(5, int((time > 0).sum())), len(mean))
    return order[:wanted].tolist()


def _draw_bars(axis: Axes, top: list[tuple[str, float]], is_unknown: bool, threshold: float) -> None:
    """Horizontal bars from 0 to 1, with names on the left and values on the right."""
    values = [p for _, p in top]
    first = UNKNOWN_BAR if is_unknown else BAR
    axis.barh(range(len(top)), values, height=0.62, color=[first, *[BAR_REST] * (len(top) - 1)])
    axis.set_yticks(range(len(top)), [_cut(name, NAME_WIDTH) for name, _ in top], fontsize=9)
    axis.set_ylim(len(top) - 0.5, -0.5)
    for place, value in enumerate(values):
        axis.text(value + 0.015, place, f"{value:.1%}", va="center", fontsize=8.5)
    axis.set_xlim(0, 1.18)
    axis.set_xticks([])
    axis.tick_params(left=False)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
    if threshold > 0:
        axis.axvline(threshold, color=UNKNOWN_BAR, linewidth=1, linestyle=":")


def _film(clip: np.ndarray) -> np.ndarray:
    """(T,C,S,S) uint8 -> (S,W',C): up to eight frames side by side, separated by white."""
    frames = spread(clip.transpose(0, 2, 3, 1), MAX_FRAMES_PER_STRIP)
    gap = max(1, frames[0].shape[1] // 40)
    padded = [np.pad(frame, ((0, 0), (0, gap), (0, 0)), constant_values=255) for frame in frames]
    return np.concatenate(padded, axis=1)[:, :-gap]


def _cut(text: str, length: int, from_end: bool = False) -> str:
    """At most `length` characters of a text, its first or its last, with dollar signs escaped (formulas)."""
    if len(text) > length:
        text = f"...{text[3 - length :]}" if from_end else f"{text[: length - 3]}..."
    return text.replace("$", r"\$")


def _save(path: str | Path, figure: Figure) -> None:
    with atomic_path(path) as temporary, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(temporary, format="png")
    missing = [item for item in caught if re.match(r"Glyph \d+ .* missing from", str(item.message))]
    for item in caught:
        if item not in missing:
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
    if missing:
        _warn_missing_characters()


@functools.cache  # once per process
def _warn_missing_characters() -> None:
    log.warning("warning: pictures: the font lacks characters of some names; tables, JSON and CSV contain them")
