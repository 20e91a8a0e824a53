"""The top of the page of two runs: which is better, in one sentence, and what was compared."""

from reporting.html import Html, el, join
from reporting.inputs import Comparison, Pair
from reporting.outcomes import McNemar
from reporting.sections.opening import describe_test, describe_views

SIGNIFICANT = 0.05


def opening(comparison: Comparison) -> Html:
    pair = comparison.pair
    first, second = (100 * float(o.is_top1.mean()) for o in (comparison.first, comparison.second))
    a, b = comparison.names
    said = f"{a} gets {first:.1f}% of {len(comparison.first.labels):,} videos right, {b} {second:.1f}%."
    tests = [
        el("p", el("b", f"{name}: "), f"test {test.name} in {run.folder}; {describe_test(test)}.", class_="note")
        for name, test, run in zip(comparison.names, pair[:2], (comparison.run, comparison.other))
    ]
    return join(
        [
            el("p", f"Comparison: {comparison.run.name} and {comparison.other.name}", class_="eyebrow"),
            el("h1", el("strong", said), " ", verdict(comparison.top1_test)),
            *tests,
            *[el("p", fault, class_="warning") for fault in _unlike(pair)],
        ]
    )


def verdict(test: McNemar) -> str:
    if not test.only_first + test.only_second:
        return "Both get the same videos right."
    if test.p_value >= SIGNIFICANT:
        return "So small a difference may well be chance."
    return f"{'B' if test.only_second > test.only_first else 'A'} is better, and chance is an unlikely reason."


def _unlike(pair: Pair) -> list[str]:
    """What makes the two tests less than alike, besides the models."""
    first, second, _ = pair
    found = []
    if first.scores["views"] != second.scores["views"]:
        found.append(f"The views differ: A {describe_views(first)}, B {describe_views(second)}.")
    if len(first.class_names) != len(second.class_names):
        found.append(f"A chooses among {len(first.class_names)} classes, B among {len(second.class_names)}.")
    elif first.class_names != second.class_names:
        found.append("The class names differ; A's are shown.")
    return found
