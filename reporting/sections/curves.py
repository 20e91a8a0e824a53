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
    train, rates, val, records, windows, shown = [], [], [], [], {}, {}
    for style, (name, run) in zip("ab", runs.items()):
        steps = [r for r in run.records if r["kind"] == "train"]
        tests = [r for r in run.records if r["kind"] == "val"]
        if steps:
            x, loss = _column(steps, "step"), _column(steps, "loss")
            window = max(1, len(x) // 40)
            if not name and window > 1:
                train.append(charts.Line("", x, loss, f"raw {style}"))
            windows[f"{window:,}"] = window > 1
            train.append(charts.Line(name, x, charts.moving_mean(loss, window), style))
            for key, dash in (("lr_new", ""), ("lr_pretrained", "dashed ")):
                rate = _column(steps, key)
                if np.isfinite(rate).any():  # the model may have no new layers
                    label = f"{name[:1]} {key.removeprefix('lr_')}".strip()
                    rates.append(charts.Line(label, x, rate, dash + style))
        if tests:
            x = _column(tests, "step")
            for key, (label, dash) in SCORES.items():
                values = _column(tests, key)
                if np.isfinite(values).any():
                    shown[key] = label
                    val.append(charts.Line(f"{name[:1]} {label}".strip(), x, values, dash + style, True))
            records += [(name, r) for r in tests]
    if not train and not val:
        return el("p", "There is no metrics.jsonl with steps in this folder.", class_="note")
    averaged = f", mean of {' and '.join(windows)} steps" if any(windows.values()) else ""
    parts = [
        (train, f"Training loss{averaged}", (0, None)),
        (val, "Validation, %", (None, 100)),
        (rates, "Learning rate by layers", (0, None)),
    ]
    drawn = [charts.line_chart(lines, "step", title, y_range) for lines, title, y_range in parts if lines]
    if not records:
        return el("div", drawn, class_="charts")
    columns = ["step", *(f"{label} %" for label in shown.values())]
    rows = [[number(r["step"], 0), *(number(r.get(key)) for key in shown)] for _, r in records]
    if len(runs) > 1:
        columns = ["run", *columns]
        rows = [[name, *row] for (name, _), row in zip(records, rows)]
    summary = el("summary", f"{count_of(len(rows), 'validation')} as a table")
    return join([el("div", drawn, class_="charts"), el("details", summary, table(columns, rows, "Validation scores"))])


def _column(records: list[dict[str, Any]], key: str) -> np.ndarray:
    """Values of a key, NaN if a record does not have it."""
    return np.array([r.get(key, np.nan) for r in records], dtype=np.float64)
