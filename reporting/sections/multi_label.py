"""The sections of a multi-label test: mean average precision, and that of each class.

Legend: N videos, K classes, B resamples.
"""

import numpy as np

from reporting.html import Html, count_of, el, join, number, ranged, table
from reporting.inputs import RunReport
from reporting.outcomes import interval, resamples
from reporting.sections.classes import class_table, meter
from reporting.sections.opening import describe_test
from utils.metrics import average_precisions

NUM_RESAMPLES = 500  # fewer than for top-1, because ranking each class is slower
_NOTE = (
    "mAP: average precision, averaged over the classes that occur. The range beside it is its 95% interval: percentile "
    f"bootstrap over videos, {NUM_RESAMPLES} resamples. Videos without a class are ignored, as in the evaluation of "
    "Charades."
)


def multi_label_opening(report: RunReport) -> Html:
    """The top of a report on a multi-label test."""
    test = report.test
    precisions, names = average_precisions(test.logits, test.table.labels), test.class_names
    best, worst = int(np.nanargmax(precisions)), int(np.nanargmin(precisions))
    rest = (
        f" over {count_of(len(test.table.paths), 'video')}; "
        f"“{names[best]}” is found best ({100 * precisions[best]:.1f}%), "
        f"“{names[worst]}” is found worst ({100 * precisions[worst]:.1f}%)."
    )
    return join(
        [
            el("p", f"Report: {report.run.name}", class_="eyebrow"),
            el("h1", el("strong", f"mAP {100 * np.nanmean(precisions):.1f}%"), rest),
            el("p", f"Details of test {test.name}: {describe_test(test)}.", class_="note"),
        ]
    )


def multi_label_scores(report: RunReport) -> Html:
    """Section: the scores of the multi-label tests."""
    rows = []
    for test in report.run.tests:
        if not test.is_multi_label:
            continue
        precisions = average_precisions(test.logits, test.table.labels)
        samples = map_samples(test.logits, test.table.labels)
        score = ranged(100 * float(np.nanmean(precisions)), interval(samples))
        counts = [number(len(test.table.paths), 0), number(int(np.isfinite(precisions).sum()), 0)]
        labels = number(float(test.table.labels.sum(axis=1).mean()))
        rows.append([test.name, score, test.shown_views, *counts, labels])
    columns = ["test", "mAP %", ("views", "clips × crops."), "videos", "classes", "labels per video"]
    return join([table(columns, rows, "Scores of each test"), el("p", _NOTE, class_="note")])


def average_precision_by_class(report: RunReport) -> Html:
    """Section: a table of the average precision of each class."""
    test = report.test
    precisions, count = average_precisions(test.logits, test.table.labels), test.table.labels.sum(axis=0)
    rows = []
    for c in np.flatnonzero(count):
        chance = number(100 * count[c] / len(test.table.paths))
        rows.append([test.class_names[c], meter(100 * precisions[c]), number(count[c], 0), chance])
    columns = ["class", "average precision %", "videos", ("chance %", "of random scores: the share of its videos.")]
    return class_table(columns, rows, "Average precision by class", num_absent=int((count == 0).sum()))


def map_samples(logits: np.ndarray, labels: np.ndarray, num_resamples: int = NUM_RESAMPLES) -> np.ndarray:
    """(B,) mAP in percent over resamples of the videos, drawn with replacement. `logits`: float32 (N,K), finite.
    `labels`: int (N,K) of 0 and 1."""
    has_class = labels.any(axis=1)
    logits, labels = logits[has_class], labels[has_class]
    means = []
    for weights in resamples(len(labels), num_resamples):
        per_class = []
        for c in np.flatnonzero(labels.any(axis=0)):
            order = np.argsort(-logits[:, c], kind="stable")
            drawn = weights[:, order]
            hits = drawn * labels[order, c]
            precision = np.cumsum(hits, axis=1) / np.maximum(np.cumsum(drawn, axis=1), 1)
            total = hits.sum(axis=1)
            summed = (hits * precision).sum(axis=1)
            per_class.append(np.divide(summed, total, out=np.full_like(summed, np.nan), where=total > 0))
        means.append(np.nanmean(per_class, axis=0))
    return 100 * np.concatenate(means)
