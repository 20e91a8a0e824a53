"""Calibration: in words, then as a diagram."""

import numpy as np

from reporting import charts
from reporting.html import Html, count_of, el, join
from reporting.inputs import Comparison, RunReport
from reporting.outcomes import NUM_BINS, Outcomes, figure_interval, figures, reliability
from reporting.temperature import calibration_summary

_BANDS = ((0.9, 1.01), (0.6, 0.9), (0.0, 0.6))  # of confidence: sure, fairly sure, unsure


def calibration(report: RunReport) -> Html:
    """Section: how often predictions of a confidence are right."""
    outcomes = report.test.outcomes
    ece = float(figures(outcomes)["ece"][0])
    scaling = calibration_summary(report.test.logits, report.test.table.labels)
    low, high = figure_interval("ece", outcomes, report.samples[report.test.name])
    seen = outcomes.take(np.flatnonzero(outcomes.is_readable))
    surplus = 100 * float(seen.confidence.mean() - seen.is_top1.mean()) if len(seen.labels) else 0.0
    lean = "overconfident" if surplus > 0 else "underconfident"
    note = f"Overall the model is {lean} by {abs(surplus):.1f} points."
    how = (
        f"Confidence is the maximum of the softmax of 100 × cosine. The expected calibration "
        f"error is {ece:.1f}% ({low:.1f} to {high:.1f}), over {NUM_BINS} bins of equal width. With logits divided by "
        f"the best temperature, {scaling['temperature']:.3g}, it is {scaling['ece_at_temperature']:.1f}% (each half of "
        f"the videos with the temperature fitted on the other half). In the left chart the line from a dot to the "
        f"diagonal is the over- or underconfidence, fainter for few videos."
    )
    bins = reliability(outcomes)
    drawn = [charts.reliability_diagram(bins, "Accuracy, %"), charts.confidence_histogram(bins)]
    return join(
        [
            el("ul", [el("li", said) for said in in_words(outcomes)], class_="words"),
            el("p", note),
            el("div", drawn, class_="charts"),
            charts.reliability_table(bins, "Calibration by confidence"),
            el("details", el("summary", "How these values are computed"), el("p", how, class_="note")),
        ]
    )


def in_words(outcomes: Outcomes) -> list[list]:
    """A sentence for each band of confidence that has videos: the mean confidence, and how often the model is right."""
    found = []
    for low, high in _BANDS:
        inside = np.nan_to_num(outcomes.confidence, nan=-1)
        inside = (inside >= low) & (inside < high)
        if inside.any():
            says, right = 100 * outcomes.confidence[inside].mean(), 100 * outcomes.is_top1[inside].mean()
            videos = count_of(int(inside.sum()), "video")
            found.append(["When it says ", el("b", f"{says:.0f}%"), ", it is right ", el("b", f"{right:.0f}%"),
                          " of the time", el("small", f" {videos}")])  # fmt: skip
    return found


def calibration_of_two(comparison: Comparison) -> Html:
    """`calibration` of both runs, side by side."""
    drawn = []
    for name, outcomes in zip(comparison.names, (comparison.first, comparison.second)):
        bins, ece = reliability(outcomes), float(figures(outcomes)["ece"][0])
        words = el("ul", [el("li", said) for said in in_words(outcomes)], class_="words")
        chart = charts.reliability_diagram(bins, "How often it is right, %")
        grid = charts.reliability_table(bins, f"Calibration of {name}")
        drawn.append(el("div", el("h3", f"{name}: ECE {ece:.1f}%"), words, chart, grid))
    return el("div", drawn, class_="charts")
