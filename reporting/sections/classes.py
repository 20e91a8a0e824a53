"""Accuracy of each class."""

from collections.abc import Sequence

import numpy as np

from reporting.html import Cell, Html, el, join, number, table
from reporting.inputs import RunReport
from reporting.outcomes import wilson_interval

_COLUMNS = [
    "class",
    ("top-1 %", "share of the class's videos that are predicted correctly (recall)."),
    "videos",
    ("95% interval", "Wilson's interval of top-1."),
    "top-5 %",
    ("precision %", "share of the videos predicted as this class that are correct."),
    ("most often confused with", "and the number of videos."),
]


def classes(report: RunReport) -> Html:
    """Section: a table of the accuracy of each class."""
    outcomes, names, confusion = report.test.outcomes, report.test.class_names, report.confusion
    count = np.bincount(outcomes.labels, minlength=len(names))
    right = np.bincount(outcomes.labels[outcomes.is_top1], minlength=len(names))
    in_top5 = np.bincount(outcomes.labels[outcomes.is_top5], minlength=len(names))
    predicted = confusion.sum(axis=0)
    wrong = confusion - np.diag(confusion.diagonal())
    rows = []
    for c in sorted(np.flatnonzero(count), key=lambda c: right[c] / count[c]):  # the worst first
        taken_for = int(wrong[c].argmax())
        low, high = wilson_interval(int(right[c]), int(count[c]))
        row = [
            names[c],
            meter(100 * right[c] / count[c]),
            number(count[c], 0),
            Cell(f"{low:.0f}–{high:.0f}", low),
            number(100 * in_top5[c] / count[c]),
            number(100 * right[c] / predicted[c] if predicted[c] else None),
            f"{names[taken_for]} ({wrong[c, taken_for]})" if wrong[c].any() else "",
        ]
        rows.append(row)
    return class_table(_COLUMNS, rows, "Accuracy by class", num_absent=int((count == 0).sum()))


def meter(share: float) -> Cell:
    """A share in percent with its bar."""
    bar = el("i", class_="meter", style=f"--share:{share:.1f}%")
    return Cell([bar, el("span", f"{share:.1f}", class_="beside")], share)


def class_table(columns: Sequence[str | tuple[str, str]], rows: list[list], caption: str, num_absent: int) -> Html:
    """A table with one row per class, and the number of classes without videos."""
    grid = table(columns, rows, caption, "classes-table", "Filter by name")
    note = f"{num_absent} classes without a video in this test are left out."
    return join([grid, el("p", note, class_="note") if num_absent else None])
