"""The scores of two runs and their differences, and whether chance explains them."""

from reporting.html import Cell, Html, el, join, number, ranged, table
from reporting.inputs import Comparison
from reporting.outcomes import FIGURES, NUM_RESAMPLES, McNemar, figure_interval, figures, interval, mcnemar

_NOTE = (
    "Ranges are 95% intervals. They cover the choice of videos for these two checkpoints, not the variation between "
    "training runs of the same recipe."
)
_HOW = (
    f"Intervals are from the percentile bootstrap over videos, {NUM_RESAMPLES:,} resamples, the same for A and B, so "
    "that the difference is paired; for scores of 0 and 100%, where it has no width, they are Wilson's (1927). "
    "McNemar's exact test checks whether the videos that only one of them gets right could be tosses of a fair coin."
)


def difference(comparison: Comparison) -> Html:
    """Section: which videos only one run classifies correctly, and McNemar's tests."""
    tests = {"top-1": comparison.top1_test, "top-5": mcnemar(comparison.first.is_top5, comparison.second.is_top5)}
    counts = [[title, *[number(n, 0) for n in t[:4]], Cell(p_value(t), t.p_value)] for title, t in tests.items()]
    columns = ["right", "both", "only A", "only B", "neither", ("p-value", "of McNemar's exact test, two-sided.")]
    test = comparison.top1_test
    text = f"Only A gets {test.only_first:,} videos right, only B {test.only_second:,} (top-1; p = {p_value(test)})."
    return join(
        [
            el("p", text),
            _scores(comparison),
            el("h3", "The same videos, right or wrong"),
            table(columns, counts, "Videos that both, one or none of the runs gets right"),
            el("p", _NOTE, class_="note"),
            el("details", el("summary", "How intervals and p-values are computed"), el("p", _HOW, class_="note")),
        ]
    )


def _scores(comparison: Comparison) -> Html:
    outcomes, samples = (comparison.first, comparison.second), comparison.samples
    estimates = [figures(o) for o in outcomes]
    intervals = {key: interval(samples[1][key] - samples[0][key]) for key in FIGURES}
    widest = max(1.0, *(abs(end) for ends in intervals.values() for end in ends))
    rows = []
    for key, title in FIGURES.items():
        a, b = (float(e[key][0]) for e in estimates)
        cells = [ranged(v, figure_interval(key, o, s)) for v, o, s in zip((a, b), outcomes, samples)]
        low, high = intervals[key]
        left, middle, right = (f"{50 + 50 * value / widest:.1f}%" for value in (low, b - a, high))
        track = el("i", class_="interval signed", style=f"--low:{left};--high:{right};--at:{middle}")
        change = el("span", f"{b - a:+.1f}", class_="beside")
        range_ = el("small", f" {low:+.1f} to {high:+.1f}", class_="range")
        rows.append([f"{title} %", *cells, Cell([track, change, range_], b - a)])
    return table(["score", *comparison.names, ("B − A", "and its 95% interval.")], rows, "Differences")


def p_value(test: McNemar) -> str:
    """A p-value as text."""
    return f"{test.p_value:.3f}" if test.p_value >= 0.001 else f"{test.p_value:.1e}"
