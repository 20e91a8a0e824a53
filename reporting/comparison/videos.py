"""The videos that only one of two runs gets right, those with the most confident mistakes first."""

import numpy as np

from reporting.html import Html, count_of, el, join, number, table
from reporting.inputs import Comparison

MAX_VIDEOS = 1000  # in a list


def videos_only_right_by(winner: int, comparison: Comparison) -> Html:
    """Section: the videos that only one run classifies correctly: the first (`winner` 0) or the second (1)."""
    tests = comparison.pair[:2]
    right, wrong = comparison.first, comparison.second
    if winner == 1:
        right, wrong = wrong, right
    chosen = np.flatnonzero(right.is_top1 & ~wrong.is_top1)
    if not len(chosen):
        return el("p", "None.", class_="note")
    chosen = chosen[np.argsort(-np.nan_to_num(wrong.confidence[chosen]), kind="stable")]
    labels, wrong_names = tests[0].class_names, tests[1 - winner].class_names
    rows = []
    for row in chosen[:MAX_VIDEOS]:
        predicted = wrong_names[wrong.predicted[row]] if wrong.predicted[row] >= 0 else "(unreadable)"
        confidences = [number(100 * float(outcomes.confidence[row])) for outcomes in (wrong, right)]
        rows.append([tests[0].table.paths[row], labels[wrong.labels[row]], predicted, *confidences])
    name, other = "AB"[winner], "AB"[1 - winner]
    columns = [
        "video",
        "class",
        f"predicted by {comparison.names[1 - winner]}",
        (f"{other}'s confidence %", "in its wrong prediction."),
        (f"{name}'s confidence %", "in the correct class."),
    ]
    some = f" The {MAX_VIDEOS:,} with the highest confidence of {other} are shown." if len(chosen) > MAX_VIDEOS else ""
    title = f"Videos that only {comparison.names[winner]} gets right"
    grid = table(columns, rows, title, f"only-{name.lower()}-table", "Filter")
    return join([el("p", f"{count_of(len(chosen), 'video')}.{some}"), grid])
