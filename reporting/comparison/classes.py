"""How the accuracy of each class changes from one run to the other."""

import numpy as np

from reporting.html import Cell, Html, el, number, table
from reporting.inputs import Comparison


def classes(comparison: Comparison) -> Html:
    """Section: the accuracy of each class in both runs."""
    first, second, names = comparison.first, comparison.second, comparison.pair.first.class_names
    a_right, b_right = first.is_top1, second.is_top1
    count = np.bincount(first.labels, minlength=len(names))
    right_a, right_b, only_a, only_b = (
        np.bincount(first.labels[chosen], minlength=len(names))
        for chosen in (a_right, b_right, a_right & ~b_right, ~a_right & b_right)
    )
    rows = []
    gained = (right_b - right_a) / np.maximum(count, 1)
    for c in sorted(np.flatnonzero(count), key=lambda c: -abs(gained[c])):  # largest difference first
        a, b = 100 * right_a[c] / count[c], 100 * right_b[c] / count[c]
        change = b - a
        colour = "right" if change > 0 else "wrong"
        style = f"--from:{50 + min(change, 0) / 2:.1f}%;--share:{abs(change) / 2:.1f}%;--kind:var(--{colour})"
        bar = Cell([el("i", class_="change", style=style), el("span", f"{change:+.1f}", class_="beside")], change)
        counts = [number(num, 0) for num in (only_b[c], only_a[c], count[c])]
        rows.append([names[c], number(a), number(b), bar, *counts])
    columns = [
        "class",
        *[f"{name} %" for name in comparison.names],
        ("B − A", "of top-1."),
        ("only B", "videos that only B gets right."),
        ("only A", "videos that only A gets right."),
        "videos",
    ]
    return table(columns, rows, "Accuracy by class", "classes-table", "Filter by name")
