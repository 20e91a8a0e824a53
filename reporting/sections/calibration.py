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
    readable = outcomes.take(np.flatnonzero(outcomes.is_readable))
    surplus = 100 * float(readable.confidence.mean() - readable.is_top1.mean()) if len(readable.labels) else 0.0
    tendency = "overconfident" if surplus > 0 else "underconfident"
    note = f"Overall the model is {tendency} by {abs(surplus):.1f} points."
    at_temperature = ""
    if scaling:
        at_temperature = (
            f"With logits divided by the best temperature, {scaling['temperature']:.3g}, it is "
            f"{scaling['ece_at_temperature']:.1f}% (each half of the videos with the temperature fitted on the other "
            "half). "
        )
    how = (
        "Confidence is the maximum of the softmax of 100 × cosine. The expected calibration error is "
        f"{ece:.1f}% ({low:.1f} to {high:.1f}), over {NUM_BINS} bins of equal width. {at_temperature}In the left chart "
        "the line from a dot to the diagonal is the over- or underconfidence, fainter for few videos."
    )
    bins = reliability(outcomes)
    drawn = [charts.reliability_diagram(bins, "Accuracy, %"), charts.confidence_histogram(bins)]
    return join(
        [
            el("ul", [el("li", sentence) for sentence in in_words(outcomes)], class_="words"),
            el("p", note),
            el("div", drawn, class_="charts"),
            charts.reliability_table(bins, "Calibration by confidence"),
            el("details", el("summary", "How these values are computed"), el("p", how, class_="note")),
        ]
    )


def in_words(outcomes: Outcomes) -> list[list]:
    """A sentence for each band of confidence that has videos: the mean confidence, and how often the model is right."""
    sentences = []
    for low, high in _BANDS:
        inside = (outcomes.confidence >= low) & (outcomes.confidence < high)  # False for NaN
        if inside.any():
            confidence = el("b", f"{100 * outcomes.confidence[inside].mean():.0f}%")
            accuracy = el("b", f"{100 * outcomes.is_top1[inside].mean():.0f}%")
            count = el("small", f" {count_of(int(inside.sum()), 'video')}")
            sentences.append(["When it says ", confidence, ", it is right ", accuracy, " of the time", count])
    return sentences


def calibration_of_two(comparison: Comparison) -> Html:
    """`calibration` of both runs, side by side."""
    drawn = []
    for name, outcomes in zip(comparison.names, (comparison.first, comparison.second)):
        bins = reliability(outcomes)
        ece = float(figures(outcomes)["ece"][0])
        words = el("ul", [el("li", sentence) for sentence in in_words(outcomes)], class_="words")
        chart = charts.reliability_diagram(bins, "How often it is right, %")
        grid = charts.reliability_table(bins, f"Calibration of {name}")
        drawn.append(el("div", el("h3", f"{name}: ECE {ece:.1f}%"), words, chart, grid))
    return el("div", drawn, class_="charts")
