"""How the accuracy of each class changes from one run to the other."""

import numpy as np

from reporting.html import Cell, Html, el, number, table
from reporting.inputs import Comparison


def classes(comparison: Comparison) -> Html:
    """Section: the accuracy of each class in both runs."""
    first, second, names = comparison.first, comparison.second, comparison.pair.first.class_names
    a_right, b_right = first.is_top1, second.is_top1
    count, right_a, right_b, fixed, broken = (
        np.bincount(first.labels[chosen], minlength=len(names))
        for chosen in (slice(None), a_right, b_right, ~a_right & b_right, a_right & ~b_right)
    )
    rows = []
    gained = (right_b - right_a) / np.maximum(count, 1)
    for c in sorted(np.flatnonzero(count), key=lambda c: -abs(gained[c])):  # largest difference first
        a, b = 100 * right_a[c] / count[c], 100 * right_b[c] / count[c]
        change = b - a
        style = f"--from:{50 + min(change, 0) / 2:.1f}%;--share:{abs(change) / 2:.1f}%;"
        style += f"--kind:var(--{'right' if change > 0 else 'wrong'})"
        bar = Cell([el("i", class_="change", style=style), el("span", f"{change:+.1f}", class_="beside")], change)
        cells = [number(a), number(b), bar, number(fixed[c], 0), number(broken[c], 0), number(count[c], 0)]
        rows.append([names[c], *cells])
    columns = [
        "class",
        *[f"{name} %" for name in comparison.names],
        ("B − A", "of top-1."),
        ("only B", "videos that only B gets right."),
        ("only A", "videos that only A gets right."),
        "videos",
    ]
    return table(columns, rows, "Accuracy by class", "classes-table", "Filter by name")
