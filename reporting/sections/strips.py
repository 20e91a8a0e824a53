"""Videos as film strips: the most confident mistakes, and which frames the right predictions rest on."""

import numpy as np

from reporting.html import Html, el, join
from reporting.inputs import RunReport
from reporting.outcomes import confident_hits, confident_mistakes
from reporting.run_folder import TestResult
from reporting.strips import Clip, strip_box

NUM_MISTAKES, NUM_HITS = 12, 7


def rows_to_show(test: TestResult) -> list[int]:
    """Rows of the table whose frames the page shows: confident mistakes, then confident hits."""
    return [*confident_mistakes(test.outcomes, NUM_MISTAKES), *confident_hits(test.outcomes, NUM_HITS)]


def opening_rows(report: RunReport) -> tuple[int | None, int | None]:
    """The most confident right and the most confident wrong video of those whose frames can be shown."""
    clips = report.clips if isinstance(report.clips, dict) else {}
    kinds = confident_hits(report.test.outcomes, NUM_HITS), confident_mistakes(report.test.outcomes, NUM_MISTAKES)
    right, wrong = (next((int(row) for row in rows if isinstance(clips.get(row), Clip)), None) for rows in kinds)
    return right, wrong


def film_strip(row: int, report: RunReport) -> Html:
    """A figure of a video: what it was called, what it is, and its frames, or why they cannot be shown."""
    clip, outcomes, names = report.clips[row], report.test.outcomes, report.test.class_names
    predicted, path = names[outcomes.predicted[row]], report.test.table.paths[row]
    said = [el("b", predicted), f", {outcomes.confidence[row]:.0%} sure."]
    if outcomes.is_top1[row]:
        verdict, kind = [el("i", "✓", class_="right"), *said], None
    else:
        truth = [" It is ", el("b", names[outcomes.labels[row]]), f" ({outcomes.label_probability[row]:.1%})."]
        verdict, kind = [el("i", "✗", class_="wrong"), *said, el("span", truth)], "mistake"
    caption = el("figcaption", verdict, el("small", path))
    body = strip_box(clip, path) if isinstance(clip, Clip) else el("p", clip, class_="note")
    return el("figure", caption, body, class_=kind)


def mistakes(report: RunReport) -> Html:
    rows = confident_mistakes(report.test.outcomes, NUM_MISTAKES)
    said = "Wrong videos of which the model was most sure. A bar upward: the frame speaks for the wrong class."
    return _strips(rows, report, said, "No readable video was called by a wrong class.")


def frames(report: RunReport) -> Html:
    said = (
        "Right videos. The bar below a frame is what it adds to the log-odds of the predicted class, in nats: those of "
        "the clip, less those of the clip with its neighbour in the frame's place. Upward: it speaks for the class. "
        "The longest bar of a strip is full. Frames and bars are of one view, the centre crop of one clip; class and "
        "probability are of the test."
    )
    return _strips(confident_hits(report.test.outcomes, NUM_HITS), report, said, "No video was right.")


def _strips(rows: np.ndarray, report: RunReport, said: str, if_none: str) -> Html:
    if isinstance(report.clips, str):
        return el("p", f"Not shown: {report.clips}", class_="note")
    if len(rows) == 0:
        return el("p", if_none, class_="note")
    rest = [int(row) for row in rows if row not in opening_rows(report)]
    above = " The first one is at the top of the page." if len(rest) < len(rows) else ""
    return join([el("p", said, above), el("div", [film_strip(row, report) for row in rest], class_="strips")])
