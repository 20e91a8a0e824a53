"""The page of two runs that were tested on the same videos: what differs, and whether chance explains it.

"A" is the first run, "B" the second; differences are B less A.
"""

from typing import Any, NamedTuple

import numpy as np

from reporting import charts
from reporting.html import Cell, Html, Section, el, join, number, page, ranged, table
from reporting.outcomes import (
    FIGURES,
    NUM_RESAMPLES,
    McNemar,
    Outcomes,
    bootstrap,
    figure_interval,
    figures,
    interval,
    mcnemar,
    reliability,
)
from reporting.run_folder import Run, TestResult, changed_keys, shown_value
from reporting.sections import curves, describe_test, describe_views
from utils.embed import VideoTable
from utils.errors import UserError

SIGNIFICANT = 0.05
MAX_VIDEOS = 1000  # in a list of fixed or broken videos


class Pair(NamedTuple):
    """Two tests of the same videos; `rows` int (N,): the second's row of each row of the first."""

    first: TestResult
    second: TestResult
    rows: np.ndarray


def align(first: VideoTable, second: VideoTable) -> np.ndarray:
    """int64 (N,): for each row of the first table, the second's row of the same path and label.

    Raises:
        UserError: they do not hold the same videos.
    """
    keys, others = (list(zip(t.paths, t.labels.tolist())) for t in (first, second))
    order, other_order = (sorted(range(len(k)), key=k.__getitem__) for k in (keys, others))
    rows = np.empty(len(keys), dtype=np.int64)
    if [keys[i] for i in order] == [others[i] for i in other_order]:
        rows[order] = other_order
        return rows
    only = sorted(set(keys) ^ set(others))
    example = f"; {only[0][0]} with label {only[0][1]} is in one of them" if only else ""
    raise UserError(
        f"the tests are not of the same videos ({len(keys)} and {len(others)}{example}), so they cannot be paired; "
        "test both runs on one list"
    )


def pair_tests(run: Run, other: Run, name: str | None) -> Pair:
    """The tests to compare: those of a name, else of the same videos, of the same views if there are, and most views.

    Raises:
        UserError: no such test, or none of the same videos.
    """
    if name is not None:
        first, second = run.test_named(name), other.test_named(name)
        return Pair(first, second, align(first.table, second.table))
    pairs = [(a, b) for a in run.tests for b in other.tests if _videos(a) == _videos(b)]
    if not pairs:
        align(run.main_test.table, other.main_test.table)
    first, second = min(pairs, key=lambda p: (p[0].scores["views"] != p[1].scores["views"], -p[0].num_views))
    return Pair(first, second, align(first.table, second.table))


def _videos(test: TestResult) -> list[tuple[str, int]]:
    return sorted(zip(test.table.paths, test.table.labels.tolist()))


def comparison_page(run: Run, other: Run, pair: Pair) -> str:
    """The page of two runs."""
    names = (f"A {run.name}", f"B {other.name}")
    first, second = pair.first.outcomes, pair.second.outcomes.take(pair.rows)
    subtitle = [
        el("p", el("b", f"{name}: "), f"test {test.name} in {r.folder}; {describe_test(test)}")
        for name, test, r in zip(names, pair[:2], (run, other))
    ]
    for fault in _unlike(pair):
        subtitle.append(el("p", fault, class_="note"))
    sections = [
        Section("difference", "What differs, and is it chance?", _difference(names, first, second)),
        Section("settings", "Settings that differ", _settings(names, run, other, pair)),
        Section("curves", "Training curves", curves(dict(zip(names, (run, other))))),
        Section("classes", "Accuracy by class", _classes(names, first, second, pair.first.class_names)),
        Section("fixed", "Videos that only B gets right", _videos_of(names, pair, first, second, is_fixed=True)),
        Section("broken", "Videos that only A gets right", _videos_of(names, pair, first, second, is_fixed=False)),
        Section("calibration", "Calibration", _calibration(names, first, second)),
    ]
    return page(f"Comparison: {run.name} and {other.name}", subtitle, sections)


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


def _difference(names: tuple[str, str], first: Outcomes, second: Outcomes) -> Html:
    samples = bootstrap(first, second)
    estimates = figures(first), figures(second)
    rows = []
    for key, title in FIGURES.items():
        a, b = (float(e[key][0]) for e in estimates)
        cells = [
            ranged(value, figure_interval(key, outcomes, s))
            for value, outcomes, s in zip((a, b), (first, second), samples)
        ]
        low, high = interval(samples[1][key] - samples[0][key])
        rows.append([f"{title} %", *cells, Cell(f"{b - a:+.1f}", b - a), Cell(f"{low:+.1f} to {high:+.1f}", low)])
    tests = {"top-1": mcnemar(first.is_top1, second.is_top1), "top-5": mcnemar(first.is_top5, second.is_top5)}
    counts = [
        [
            title,
            number(t.both, 0),
            number(t.only_first, 0),
            number(t.only_second, 0),
            number(t.neither, 0),
            Cell(_p(t), t.p_value),
        ]
        for title, t in tests.items()
    ]
    note = (
        f"Intervals: 95%, percentile bootstrap over videos, {NUM_RESAMPLES:,} resamples, the same for A and B, so that "
        "the difference is paired; of a score of 0 or 100%, where it has no width, Wilson's (1927). McNemar's exact "
        "test asks whether the videos that only one of them gets right could be tosses of a fair coin. Both are about "
        "these two checkpoints and other videos of the kind; another training of the same recipe varies by itself."
    )
    return join(
        [
            el("p", _verdict(tests["top-1"])),
            table(["figure", *names, "B − A", ("95% interval", "of the difference")], rows, "Differences"),
            el("h3", "The same videos, right or wrong"),
            table(
                ["right", "both", "only A", "only B", "neither", ("p-value", "McNemar's exact test, two-sided")],
                counts,
                "Videos that both, one or none gets right",
            ),
            el("p", note, class_="note"),
        ]
    )


def _p(test: McNemar) -> str:
    return f"{test.p_value:.3f}" if test.p_value >= 0.001 else f"{test.p_value:.1e}"


def _verdict(test: McNemar) -> list[Any]:
    discordant = test.only_first + test.only_second
    if not discordant:
        return ["Both get the same videos right."]
    better = "B" if test.only_second > test.only_first else "A"
    said = f"Only A gets {test.only_first:,} videos right, only B {test.only_second:,} (top-1; p = {_p(test)}). "
    if test.p_value < SIGNIFICANT:
        return [said, el("b", f"{better} is better, and chance is an unlikely reason.")]
    return [said, el("b", "So small a difference may well be chance.")]


def _settings(names: tuple[str, str], run: Run, other: Run, pair: Pair) -> Html:
    if run.config and other.config:
        configs = run.config.model_dump(), other.config.model_dump()
    else:
        configs = pair.first.scores["config"], pair.second.scores["config"]
    rows = [
        [el("code", key), el("code", shown_value(a)), el("code", shown_value(b))]
        for key, (a, b) in changed_keys(*configs).items()
        if key != "logging.run_dir"
    ]
    return table(["key", *names], rows, "Config keys that differ") if rows else el("p", "None.", class_="note")


def _classes(names: tuple[str, str], first: Outcomes, second: Outcomes, class_names: list[str]) -> Html:
    num_classes = len(class_names)
    count, right_a, right_b, fixed, broken = (
        np.bincount(first.labels[chosen], minlength=num_classes)
        for chosen in (
            slice(None),
            first.is_top1,
            second.is_top1,
            ~first.is_top1 & second.is_top1,
            first.is_top1 & ~second.is_top1,
        )
    )
    rows = []
    for c in np.flatnonzero(count):
        a, b = 100 * right_a[c] / count[c], 100 * right_b[c] / count[c]
        change = b - a
        style = f"--from:{50 + min(change, 0) / 2:.1f}%;--share:{abs(change) / 2:.1f}%;"
        style += f"--kind:var(--{'right' if change > 0 else 'wrong'})"
        bar = Cell([el("i", class_="change", style=style), el("span", f"{change:+.1f}", class_="beside")], change)
        cells = [number(count[c], 0), number(a), number(b), bar, number(fixed[c], 0), number(broken[c], 0)]
        rows.append([class_names[c], *cells])
    columns = [
        "class",
        "videos",
        f"{names[0]} top-1 %",
        f"{names[1]} top-1 %",
        "B − A",
        ("only B", "videos that only B gets right"),
        ("only A", "videos that only A gets right"),
    ]
    return table(columns, rows, "Accuracy by class", "classes-table", "Filter by name", is_tall=True)


def _videos_of(names: tuple[str, str], pair: Pair, first: Outcomes, second: Outcomes, is_fixed: bool) -> Html:
    """Videos that only B (`is_fixed`), or only A gets right; those first of which the one at fault was most sure."""
    winner, loser = (second, first) if is_fixed else (first, second)
    chosen = np.flatnonzero(winner.is_top1 & ~loser.is_top1)
    chosen = chosen[np.argsort(-np.nan_to_num(loser.confidence[chosen]), kind="stable")]
    if not len(chosen):
        return el("p", "None.", class_="note")
    labels = pair.first.class_names
    loser_names = labels if loser is first else pair.second.class_names
    rows = []
    for row in chosen[:MAX_VIDEOS]:
        called = loser_names[loser.predicted[row]] if loser.predicted[row] >= 0 else "(unreadable)"
        path = pair.first.table.paths[row]
        confidences = [number(100 * float(o.confidence[row])) for o in (loser, winner)]
        rows.append([path, labels[first.labels[row]], called, *confidences])
    at_fault, right = (names[0], names[1]) if is_fixed else (names[1], names[0])
    columns = [
        "video",
        "class",
        f"{at_fault} calls it",
        (f"{at_fault[0]}'s confidence %", "in its wrong answer"),
        (f"{right[0]}'s confidence %", "in the right one"),
    ]
    some = f" The {MAX_VIDEOS:,} are shown where {at_fault[0]} is most sure." if len(chosen) > MAX_VIDEOS else ""
    id = "fixed-table" if is_fixed else "broken-table"
    grid = table(columns, rows, f"Videos that only {right} gets right", id, "Filter", is_tall=True)
    return join([el("p", f"{len(chosen):,} video{'s' if len(chosen) > 1 else ''}.{some}"), grid])


def _calibration(names: tuple[str, str], first: Outcomes, second: Outcomes) -> Html:
    drawn = []
    for name, outcomes in zip(names, (first, second)):
        ece = float(figures(outcomes)["ece"][0])
        drawn.append(el("div", el("h3", f"{name}: ECE {ece:.1f}%"), charts.reliability_diagram(reliability(outcomes))))
    return el("div", drawn, class_="charts")
