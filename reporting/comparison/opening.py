"""The top of a comparison of two runs: which is better, in one sentence, and what was compared."""

import numpy as np

from reporting.html import Html, el, join
from reporting.inputs import Comparison, Pair
from reporting.outcomes import McNemar
from reporting.sections.opening import describe_test, describe_views
from reporting.sections.strips import describe_prediction, figure

SIGNIFICANT = 0.05
_BARS = (
    "Frames as A sees them. The bars are contributions to the log-odds of A's prediction, in nats, up for it and down "
    "against it."
)


def opening(comparison: Comparison) -> Html:
    """The top of a comparison: which run is better, in words and scores."""
    pair = comparison.pair
    first, second = (100 * float(o.is_top1.mean()) for o in (comparison.first, comparison.second))
    a, b = comparison.names
    accuracy = f"{a} gets {first:.1f}% of {len(comparison.first.labels):,} videos right, {b} {second:.1f}%."
    tests = [
        el("p", el("b", f"{name}: "), f"test {test.name} in {run.folder}; {describe_test(test)}.", class_="note")
        for name, test, run in zip(comparison.names, pair[:2], (comparison.run, comparison.other))
    ]
    strips = [] if isinstance(comparison.clips, str) else [_strip(row, comparison) for row in comparison.clips]
    return join(
        [
            el("p", f"Comparison: {comparison.run.name} and {comparison.other.name}", class_="eyebrow"),
            el("h1", el("strong", accuracy), " ", verdict(comparison.top1_test)),
            el("div", strips, class_="strips") if strips else None,
            el("p", _BARS, class_="note") if strips else None,
            *tests,
            *[el("p", text, class_="warning") for text in _other_differences(pair)],
        ]
    )


def rows_to_show(pair: Pair) -> list[int]:
    """Rows of the first table (0 to 2): the most confident video that only A gets right, then that of B."""
    first, second = pair.first.outcomes, pair.second.outcomes.take(pair.rows)
    most_confident = []
    for right, wrong in ((first, second), (second, first)):
        rows = np.flatnonzero(right.is_top1 & ~wrong.is_top1 & first.is_readable)
        most_confident += rows[np.argsort(-right.confidence[rows], kind="stable")][:1].tolist()
    return most_confident


def _strip(row: int, comparison: Comparison) -> Html:
    """The frames of a video as seen by A, and both predictions."""
    first, second, _ = comparison.pair
    winner = comparison.names[0] if comparison.first.is_top1[row] else comparison.names[1]
    predictions = [
        el("div", f"{name}: ", describe_prediction(outcomes, test.class_names, row))
        for name, outcomes, test in zip("AB", (comparison.first, comparison.second), (first, second))
    ]
    path, is_mistake = first.table.paths[row], not comparison.first.is_top1[row]
    strip = figure(predictions, comparison.clips[row], path, is_mistake)
    return el("div", el("h2", f"Only {winner} is right"), strip, class_="shown")


def verdict(test: McNemar) -> str:
    """A sentence on whether the difference may be chance."""
    if test.only_first + test.only_second == 0:
        return "Both get the same videos right."
    if test.p_value >= SIGNIFICANT:
        return "So small a difference may well be chance."
    return f"{'B' if test.only_second > test.only_first else 'A'} is better, and chance is an unlikely reason."


def _other_differences(pair: Pair) -> list[str]:
    """Differences between the two tests besides the models."""
    first, second, _ = pair
    differences = []
    if first.scores["views"] != second.scores["views"]:
        differences.append(f"The views differ: A {describe_views(first)}, B {describe_views(second)}.")
    if len(first.class_names) != len(second.class_names):
        differences.append(f"A chooses among {len(first.class_names)} classes, B among {len(second.class_names)}.")
    elif first.class_names != second.class_names:
        differences.append("The class names differ; A's are shown.")
    return differences
