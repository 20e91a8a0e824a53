"""The page of one run: its sections, each a function of what was read."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from reporting import charts
from reporting.class_sections import classes, confusions, embedding_map
from reporting.html import Cell, Html, Section, el, join, number, page, ranged, table, tiles
from reporting.outcomes import (
    FIGURES,
    NUM_BINS,
    NUM_RESAMPLES,
    bootstrap,
    confident_hits,
    confident_mistakes,
    figure_interval,
    figures,
    interval,
    reliability,
)
from reporting.run_folder import Run, TestResult, changed_keys, commands, shown_value
from reporting.strips import Clip, film_strips
from utils.metrics import half_class_scores
from utils.schema import dotted_keys

NUM_MISTAKES, NUM_HITS = 12, 6  # film strips


def rows_to_show(test: TestResult) -> list[int]:
    """Rows of the table whose frames the page shows: confident mistakes, then confident hits."""
    return [*confident_mistakes(test.outcomes, NUM_MISTAKES), *confident_hits(test.outcomes, NUM_HITS)]


def run_page(run: Run, test: TestResult, clips: dict[int, Clip | str] | str) -> str:
    """The page of a run, with the details of one of its tests.

    Args:
        clips: of `rows_to_show`, by row; a text for a video that cannot be shown, or one text for all of them.
    """
    samples = {t.name: bootstrap(t.outcomes)[0] for t in run.tests}
    sections = [
        Section("scores", "Scores by protocol", _scores(run, samples)),
        Section("recipe", "Recipe and commands", recipe(run, test)),
        Section("curves", "Training curves", curves({run.name: run})),
        Section("classes", "Accuracy by class", classes(test)),
        Section("confusion", "Confusions", confusions(test)),
        Section("calibration", "Calibration", calibration(test, samples[test.name]["ece"])),
        *_frame_sections(test, clips),
        Section("map", "Embedding map", embedding_map(test)),
    ]
    subtitle = [
        el("p", f"Details of test {test.name}: {describe_test(test)}"),
        headline(test, samples[test.name]),
    ]
    return page(f"Report: {run.name}", subtitle, sections)


def describe_test(test: TestResult) -> str:
    """Its model, data and views in a line."""
    network = test.scores["config"]["network"]
    head = f"temporal head {network['sim_header']}" + (f", {network['tm']}" if network["tm"] else "")
    head += ", joint space-time attention" if network["joint_st"] else ""
    data = ", ".join(test.lists)
    return f"{network['arch']}, {head}; {len(test.table.paths):,} videos of {data}; {describe_views(test)}"


def describe_views(test: TestResult) -> str:
    views = test.scores["views"]
    dense = ", dense" if views.get("dense") else ""
    one = test.num_views == 1
    return f"1 view{dense}" if one else f"{views['clips']} clips x {views['crops']} crops{dense}"


def headline(test: TestResult, samples: dict[str, np.ndarray]) -> Html:
    found = []
    for key, value in figures(test.outcomes).items():
        low, high = figure_interval(key, test.outcomes, samples)
        found.append((FIGURES[key], f"{value[0]:.1f}%", f"{low:.1f} to {high:.1f}"))
    num_missing = int((~test.outcomes.is_readable).sum())
    below = f"{num_missing} unreadable, counted as wrong" if num_missing else f"{len(test.class_names)} classes"
    return tiles([*found, ("videos", f"{len(test.table.paths):,}", below)])


def _scores(run: Run, samples: dict[str, dict[str, np.ndarray]]) -> Html:
    # The scores come first: on a phone's screen there is room for two columns.
    columns = [
        "test",
        *[(f"{title} %", "with its 95% interval") for title in FIGURES.values()],
        ("half classes %", "zero-shot: top-1, mean and deviation over 10 draws of half of the classes"),
        ("mAP %", "where the test was asked for it"),
        ("unreadable", "videos that could not be read; they count as wrong"),
        ("views", "clips x crops"),
        "videos",
        "classes",
        ("weights", "the checkpoint that was tested"),
    ]
    rows = []
    for test in run.tests:
        found = figures(test.outcomes)
        half = half_class_scores(test.logits, test.table.labels) if test.is_zero_shot and len(test.text) > 1 else None
        rows.append(
            [
                test.name,
                *[
                    ranged(float(found[key][0]), figure_interval(key, test.outcomes, samples[test.name]))
                    for key in FIGURES
                ],
                _half(half.mean_top1, half.std_top1) if half else number(None),
                number(test.scores.get("map")),
                number(int((~test.outcomes.is_readable).sum()), 0),
                _short_views(test),
                number(len(test.table.paths), 0),
                number(len(test.class_names), 0),
                Path(test.weights).name if test.weights else "–",
            ]
        )
        # Splits of a zero-shot test: its summary has their figures.
        for name, s in test.by_list.items() if len(test.by_list) > 1 else ():
            counts = [number(s["num_videos"], 0), number(s["num_classes"], 0)]
            scores = [number(s["full_top1"]), number(s["full_top5"]), number(None), number(None)]
            half_cell = _half(s["half_top1_mean"], s["half_top1_std"])
            own = [_short_views(test), *counts, rows[-1][-1]]
            rows.append([f"{test.name}: {name}", *scores, half_cell, *[number(None)] * 2, *own])
    # Half classes, mAP and unreadable are shown where they say something.
    for column in (7, 6, 5):
        if all(row[column].shown in ("–", "0") for row in rows):
            for row in (columns, *rows):
                del row[column]
    note = (
        f"Small type: 95% intervals by the percentile bootstrap over videos, {NUM_RESAMPLES:,} resamples; at 0 and "
        "100%, where it has no width, Wilson's over videos (1927). They tell how much a score would move with other "
        "videos of the kind, not with another training. Mean class: the mean over the classes of each one's top-1. "
        "ECE: expected calibration error."
    )
    return join([table(columns, rows, "Scores of each test"), el("p", note, class_="note")])


def _half(mean: float, deviation: float) -> Cell:
    return Cell(f"{mean:.1f} ± {deviation:.1f}", mean)


def _short_views(test: TestResult) -> str:
    views = test.scores["views"]
    return f"{views['clips']} x {views['crops']}{' dense' if views.get('dense') else ''}"


def recipe(run: Run, test: TestResult) -> Html:
    """Commands, the keys that differ from their defaults, and the whole config."""
    config = run.config.model_dump() if run.config else test.scores["config"]
    fields = dotted_keys()
    rows = [
        [el("code", key), el("code", shown_value(value)), el("code", shown_value(base)), fields[key].description]
        for key, (value, base) in changed_keys(config).items()
    ]
    lines = [
        [el("h3", what), el("pre", el("code", command), class_="box", tabindex="0")]
        for what, command in commands(run, test).items()
    ]
    source = "config.yaml of the run" if run.config else "the config in summary.json; save it as recipe.yaml"
    whole = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120)
    return join(
        [
            *lines,
            el("h3", "Keys that differ from their defaults"),
            table(["key", "value", "default", "meaning"], rows, "Changed config keys", is_tall=True),
            el(
                "details",
                el("summary", f"The whole config ({source})"),
                el("pre", el("code", whole), class_="box tall", tabindex="0"),
            ),
        ]
    )


def curves(runs: dict[str, Run]) -> Html:
    """Loss, learning rates and validation of one run, or of two in the same charts."""
    train, rates, val = [], [], []
    for style, (name, run) in zip("ab", runs.items()):
        of = f"{name}: " if len(runs) > 1 else ""
        steps = [r for r in run.records if r["kind"] == "train"]
        tests = [r for r in run.records if r["kind"] == "val"]
        if steps:
            x, loss = _column(steps, "step"), _column(steps, "loss")
            if len(runs) == 1:
                train.append(charts.Line("each step", x, loss, f"raw {style}"))
            window = max(1, len(x) // 40)
            mean = charts.moving_mean(loss, window)
            train.append(charts.Line(f"{of}mean of {window} steps", x, mean, style))
            for key, dash in (("lr_new", ""), ("lr_pretrained", "dashed ")):
                rate = _column(steps, key)
                if np.isfinite(rate).any():  # a model may have no new layers
                    rates.append(charts.Line(f"{of}{key.removeprefix('lr_')} layers", x, rate, dash + style))
        if tests:
            x = _column(tests, "step")
            val.append(charts.Line(f"{of}top-1", x, _column(tests, "top1"), style, has_dots=True))
            val.append(charts.Line(f"{of}top-5", x, _column(tests, "top5"), f"dashed {style}", has_dots=True))
    if not train and not val:
        return el("p", "There is no metrics.jsonl with steps in this folder.", class_="note")
    drawn = []
    if train:
        drawn.append(charts.line_chart(train, "step", "training loss"))
    if rates:
        drawn.append(charts.line_chart(rates, "step", "learning rate"))
    if val:
        drawn.append(charts.line_chart(val, "step", "validation, %", (None, 100)))
    return el("div", drawn, class_="charts")


def _column(records: list[dict[str, Any]], key: str) -> np.ndarray:
    """Values of a key, NaN where a record has none."""
    return np.array([r.get(key, np.nan) for r in records], dtype=np.float64)


def calibration(test: TestResult, ece_samples: np.ndarray) -> Html:
    """Reliability diagram, and the expected calibration error in words."""
    bins = reliability(test.outcomes)
    readable = test.outcomes.is_readable
    ece = float(figures(test.outcomes)["ece"][0])
    low, high = interval(ece_samples)
    confidence = 100 * float(test.outcomes.confidence[readable].mean())
    accuracy = 100 * float(test.outcomes.is_top1[readable].mean())
    lean = "too sure of itself" if confidence > accuracy else "too careful"
    said = (
        f"Expected calibration error {ece:.1f}% ({low:.1f} to {high:.1f}), over {NUM_BINS} bins of equal width. "
        f"Mean confidence {confidence:.1f}%, accuracy {accuracy:.1f}%: on the whole the model is {lean}. "
        "Confidence is the largest of the softmax of 100 x cosine."
    )
    drawn = el("div", charts.reliability_diagram(bins), charts.confidence_histogram(bins), class_="charts")
    return join([el("p", said), drawn])


def _frame_sections(test: TestResult, clips: dict[int, Clip | str] | str) -> list[Section]:
    mistakes = confident_mistakes(test.outcomes, NUM_MISTAKES)
    hits = confident_hits(test.outcomes, NUM_HITS)
    contents = []
    for rows, none in ((mistakes, "No readable video was called by a wrong class."), (hits, "No video was right.")):
        if isinstance(clips, str):
            contents.append(el("p", f"Not shown: {clips}", class_="note"))
        elif len(rows) == 0:
            contents.append(el("p", none, class_="note"))
        else:
            contents.append(film_strips(rows, clips, test.outcomes, test.table.paths, test.class_names))
    said = (
        "The bar below a frame is what it adds to the log-odds of the predicted class: those of the clip, less those "
        "of the clip with the frame's place taken by its neighbour. Upward: it speaks for the class. In a strip the "
        "longest bar is full; point at one for its figure. Frames and bars are of one view, the centre crop of one "
        "clip; class and probability are of the test."
    )
    link = el("a", "Which frames mattered", href="#frames")
    if not isinstance(clips, str):
        contents[0] = [el("p", "The bars say which frames speak for the wrong class: see ", link, "."), contents[0]]
        contents[1] = [el("p", said), contents[1]]
    return [
        Section("mistakes", "Most confident mistakes", contents[0]),
        Section("frames", "Which frames mattered", contents[1]),
    ]
