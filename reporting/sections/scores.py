"""The scores of a run's tests, with their intervals."""

import math
from pathlib import Path

from reporting.html import Cell, Html, el, join, number, ranged, table
from reporting.inputs import RunReport
from reporting.outcomes import FIGURES, NUM_RESAMPLES, figure_interval, figures
from reporting.run_folder import TestResult
from utils.metrics import half_class_scores
from utils.protocols import mean_and_deviation

_NOTE = (
    "The range below a score is its 95% interval, which covers the choice of videos, not the variation between "
    "training runs. Mean class averages the top-1 of the classes. ECE, the expected calibration error, is the mean "
    "absolute difference between the model's confidence and its accuracy."
)
_HOW = (
    f"Percentile bootstrap over videos, {NUM_RESAMPLES:,} resamples; at 0 and 100%, where that has no width, Wilson's "
    "interval over videos (1927)."
)
_NO_VALUE = number(None)


def scores(report: RunReport) -> Html:
    """Section: the scores of all tests, with intervals."""
    columns = {  # scores come first for small screens
        "test": ("test", "and the checkpoint that was tested."),
        **{key: f"{title} %" for key, title in FIGURES.items()},
        "half": (
            "half classes %",
            "of a zero-shot test: top-1, mean and deviation over 10 draws of half of the classes.",
        ),
        "map": "mAP %",
        "unreadable": ("unreadable", "videos that could not be read; they count as wrong."),
        "views": ("views", "clips × crops of a video."),
        "videos": "videos",
        "classes": "classes",
    }
    rows = [row for test in report.run.tests if not test.is_multi_label for row in _rows_of(test, report)]
    for key in ("half", "map", "unreadable"):
        if all(row.get(key, _NO_VALUE).shown in ("–", "0") for row in rows):
            del columns[key]
    cells = [[row.get(key, _NO_VALUE) for key in columns] for row in rows]
    grid = table(list(columns.values()), cells, "Scores of each test")
    how = el("details", el("summary", "How the intervals are computed"), el("p", _HOW, class_="note"))
    return join([_tiles(report), grid, el("p", _NOTE, class_="note"), how])


def _tiles(report: RunReport) -> Html:
    """The scores of the test in a large font, each with its interval on a line from 0 to 100%."""
    tiles = []
    for key, (value,) in figures(report.test.outcomes).items():
        low, high = figure_interval(key, report.test.outcomes, report.samples[report.test.name])
        track = el("i", class_="interval", style=f"--low:{low:.1f}%;--high:{high:.1f}%;--at:{value:.1f}%")
        figure = el("dd", el("b", f"{value:.1f}%"), track, el("small", f"{low:.1f} to {high:.1f}"))
        tiles.append(el("div", el("dt", FIGURES[key]), figure))
    return el("dl", tiles, class_="tiles")


def _rows_of(test: TestResult, report: RunReport) -> list[dict[str, Cell]]:
    """The row of a test, and one for each split of a zero-shot test, from its summary: cells by column."""
    samples = report.samples[test.name]
    row = {
        "test": Cell([test.name, el("small", f" {Path(test.weights).name}") if test.weights else None]),
        **{
            key: ranged(float(value), figure_interval(key, test.outcomes, samples))
            for key, (value,) in figures(test.outcomes).items()
        },
        "map": number(test.scores.get("map")),
        "unreadable": number(int((~test.outcomes.is_readable).sum()), 0),
        "views": Cell(test.shown_views),
        "videos": number(len(test.table.paths), 0),
        "classes": number(len(test.class_names), 0),
    }
    if test.is_zero_shot and len(test.text) > 1:
        half = half_class_scores(test.logits, test.table.labels)
        mean, deviation = mean_and_deviation([draw.top1 for draw in half])
        row["half"] = _half(mean, deviation)
    if len(test.by_list) <= 1:
        return [row]
    splits = [
        {
            "test": Cell(f"{test.name}: {name}"),
            "top1": number(split.get("full_top1")),
            "top5": number(split.get("full_top5")),
            "half": _half(split.get("half_top1_mean", math.nan), split.get("half_top1_std", math.nan)),
            "views": Cell(test.shown_views),
            "videos": number(split.get("num_videos"), 0),
            "classes": number(split.get("num_classes"), 0),
        }
        for name, split in test.by_list.items()
    ]
    return [row, *splits]


def _half(mean: float, deviation: float) -> Cell:
    return _NO_VALUE if math.isnan(mean) else Cell(f"{mean:.1f} ± {deviation:.1f}", mean)
