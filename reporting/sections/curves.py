"""Training curves: loss, validation scores and learning rates."""

from typing import Any

import numpy as np

from reporting import charts
from reporting.html import Html, count_of, el, join, number, table
from reporting.inputs import Comparison, RunReport
from reporting.run_folder import Run

SCORES = {"top1": ("top-1", ""), "top5": ("top-5", "dashed "), "map": ("mAP", "")}
"""Keys of validation records: names and line styles."""


def curves(report: RunReport) -> Html:
    """Section: loss, validation scores and learning rates over the steps."""
    return _charts({"": report.run})


def curves_of_two(comparison: Comparison) -> Html:
    """`curves` of both runs in the same charts."""
    return _charts(dict(zip(comparison.names, (comparison.run, comparison.other))))


def _charts(runs: dict[str, Run]) -> Html:
    """One run, or two in the same charts, by the names of their lines."""
    losses, rates, scores, windows = [], [], [], []
    validations: list[tuple[str, dict[str, Any]]] = []
    for style, (name, run) in zip("ab", runs.items()):
        steps = [r for r in run.records if r["kind"] == "train"]
        if steps:
            windows.append(max(1, len(steps) // 40))
            losses += _loss_lines(name, style, steps, windows[-1])
            rates += _rate_lines(name, style, steps)
        tests = [r for r in run.records if r["kind"] == "val"]
        scores += _score_lines(name, style, tests)
        validations += [(name, r) for r in tests]
    if not losses and not scores:
        return el("p", "There is no metrics.jsonl with steps in this folder.", class_="note")
    averaged = ""
    if max(windows, default=1) > 1:
        averaged = f", mean of {' and '.join(f'{window:,}' for window in dict.fromkeys(windows))} steps"
    parts = [
        (losses, f"Training loss{averaged}", (0, None)),
        (scores, "Validation, %", (None, 100)),
        (rates, "Learning rate by layers", (0, None)),
    ]
    drawn = [charts.line_chart(lines, title, y_range) for lines, title, y_range in parts if lines]
    shown = el("div", drawn, class_="charts")
    return join([shown, _validation_table(validations)]) if validations else shown


def _loss_lines(name: str, style: str, steps: list[dict[str, Any]], window: int) -> list[charts.Line]:
    """The moving mean of the loss and, for a single run, the loss of each step behind it."""
    x, loss = _column(steps, "step"), _column(steps, "loss")
    raw = [charts.Line("", x, loss, f"raw {style}")] if not name and window > 1 else []
    return [*raw, charts.Line(name, x, charts.moving_mean(loss, window), style)]


def _rate_lines(name: str, style: str, steps: list[dict[str, Any]]) -> list[charts.Line]:
    lines = []
    for key, dash in (("lr_new", ""), ("lr_pretrained", "dashed ")):
        rate = _column(steps, key)
        if np.isfinite(rate).any():  # the model may have no new layers
            label = f"{name[:1]} {key.removeprefix('lr_')}".strip()
            lines.append(charts.Line(label, _column(steps, "step"), rate, dash + style))
    return lines


def _score_lines(name: str, style: str, tests: list[dict[str, Any]]) -> list[charts.Line]:
    lines = []
    for key, (label, dash) in SCORES.items():
        values = _column(tests, key)
        if np.isfinite(values).any():
            lines.append(charts.Line(f"{name[:1]} {label}".strip(), _column(tests, "step"), values, dash + style, True))
    return lines


def _validation_table(validations: list[tuple[str, dict[str, Any]]]) -> Html:
    """The scores of each validation, by run if runs have names."""
    records = [record for _, record in validations]
    keys = [key for key in SCORES if np.isfinite(_column(records, key)).any()]
    columns = ["step", *(f"{SCORES[key][0]} %" for key in keys)]
    rows = [[number(r["step"], 0), *(number(r.get(key)) for key in keys)] for r in records]
    if any(name for name, _ in validations):
        columns = ["run", *columns]
        rows = [[name, *row] for (name, _), row in zip(validations, rows)]
    summary = el("summary", f"{count_of(len(rows), 'validation')} as a table")
    return el("details", summary, table(columns, rows, "Validation scores"))


def _column(records: list[dict[str, Any]], key: str) -> np.ndarray:
    """Values of a key, NaN if a record does not have it."""
    return np.array([r.get(key, np.nan) for r in records], dtype=np.float64)
