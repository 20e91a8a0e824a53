"""The scores of a run's tests, with their intervals."""

from pathlib import Path
from typing import Any

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


def scores(report: RunReport) -> Html:
    """Section: the scores of all tests, with intervals."""
    # Scores come first for small screens; half classes, mAP and unreadable videos only if present.
    columns = [
        ("test", "and the checkpoint that was tested."),
        *[f"{title} %" for title in FIGURES.values()],
        ("half classes %", "of a zero-shot test: top-1, mean and deviation over 10 draws of half of the classes."),
        "mAP %",
        ("unreadable", "videos that could not be read; they count as wrong."),
        ("views", "clips × crops of a video."),
        "videos",
        "classes",
    ]
    rows = [row for test in report.run.tests if not test.is_multi_label for row in _rows_of(test, report)]
    for column in (7, 6, 5):
        if all(row[column].shown in ("–", "0") for row in rows):
            for row in (columns, *rows):
                del row[column]
    how = el("details", el("summary", "How the intervals are computed"), el("p", _HOW, class_="note"))
    return join([_tiles(report), table(columns, rows, "Scores of each test"), el("p", _NOTE, class_="note"), how])


def _tiles(report: RunReport) -> Html:
    """The scores of the test in a large font, each with its interval on a line from 0 to 100%."""
    tiles = []
    for key, (value,) in figures(report.test.outcomes).items():
        low, high = figure_interval(key, report.test.outcomes, report.samples[report.test.name])
        track = el("i", class_="interval", style=f"--low:{low:.1f}%;--high:{high:.1f}%;--at:{value:.1f}%")
        figure = el("dd", el("b", f"{value:.1f}%"), track, el("small", f"{low:.1f} to {high:.1f}"))
        tiles.append(el("div", el("dt", FIGURES[key]), figure))
    return el("dl", tiles, class_="tiles")


def _rows_of(test: TestResult, report: RunReport) -> list[list]:
    """The row of a test, and one for each split of a zero-shot test, from its summary."""
    scores, samples = figures(test.outcomes), report.samples[test.name]
    half_cell = number(None)
    if test.is_zero_shot and len(test.text) > 1:
        half = half_class_scores(test.logits, test.table.labels)
        mean, deviation = mean_and_deviation([draw.top1 for draw in half])
        half_cell = _half(mean, deviation)
    weights = el("small", f" {Path(test.weights).name}") if test.weights else None
    row = [
        Cell([test.name, weights]),
        *[ranged(float(scores[key][0]), figure_interval(key, test.outcomes, samples)) for key in FIGURES],
        half_cell,
        number(test.scores.get("map")),
        number(int((~test.outcomes.is_readable).sum()), 0),
        test.shown_views,
        number(len(test.table.paths), 0),
        number(len(test.class_names), 0),
    ]
    if len(test.by_list) <= 1:
        return [row]
    return [row, *(_split_row(f"{test.name}: {name}", split, test) for name, split in test.by_list.items())]


def _split_row(title: str, split: dict[str, Any], test: TestResult) -> list:
    """The row of one split of a zero-shot test, from its entry in the summary."""
    return [
        title,
        number(split["full_top1"]),
        number(split["full_top5"]),
        number(None),  # mean class
        number(None),  # ECE
        _half(split["half_top1_mean"], split["half_top1_std"]),
        number(None),  # mAP
        number(None),  # unreadable videos
        test.shown_views,
        number(split["num_videos"], 0),
        number(split["num_classes"], 0),
    ]


def _half(mean: float, deviation: float) -> Cell:
    return Cell(f"{mean:.1f} ± {deviation:.1f}", mean)
