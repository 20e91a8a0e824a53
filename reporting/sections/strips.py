"""Videos as film strips: the most confident mistakes, and which frames the right predictions rely on."""

from typing import Any

import numpy as np

from modules.attribution import ShownClip
from reporting.html import Html, el, join
from reporting.inputs import RunReport
from reporting.outcomes import Outcomes, confident_hits, confident_mistakes
from reporting.run_folder import TestResult
from reporting.strips import strip_box

NUM_MISTAKES, NUM_HITS = 12, 7


def rows_to_show(test: TestResult) -> list[int]:
    """Rows of the table whose frames are shown: confident mistakes, then confident correct predictions.

    Multi-label tests have none.
    """
    if test.is_multi_label:
        return []
    return [*confident_mistakes(test.outcomes, NUM_MISTAKES), *confident_hits(test.outcomes, NUM_HITS)]


def opening_rows(report: RunReport) -> tuple[int | None, int | None]:
    """The most confident correct and wrong videos whose frames can be shown."""
    clips = report.clips if isinstance(report.clips, dict) else {}

    def first_shown(rows: np.ndarray) -> int | None:
        return next((int(row) for row in rows if isinstance(clips.get(row), ShownClip)), None)

    outcomes = report.test.outcomes
    return first_shown(confident_hits(outcomes, NUM_HITS)), first_shown(confident_mistakes(outcomes, NUM_MISTAKES))


def film_strip(row: int, report: RunReport) -> Html:
    """A video with its prediction and class, and its frames or the reason why they cannot be shown."""
    outcomes, names = report.test.outcomes, report.test.class_names
    is_mistake = not outcomes.is_top1[row]
    caption = [describe_prediction(outcomes, names, row)]
    if is_mistake:
        caption += [" It is ", el("b", names[outcomes.labels[row]]), f" ({outcomes.label_probability[row]:.1%})."]
    return figure(caption, report.clips[row], report.test.table.paths[row], is_mistake)


def describe_prediction(outcomes: Outcomes, names: list[str], row: int) -> Html:
    """Whether a video is right, its predicted class and the confidence, in words."""
    is_right, predicted = outcomes.is_top1[row], outcomes.predicted[row]
    mark = el("i", "✓" if is_right else "✗", class_="right" if is_right else "wrong")
    if predicted < 0:
        return join([mark, "could not be read."])
    return join([mark, el("b", names[predicted]), f", confidence {outcomes.confidence[row]:.0%}."])


def figure(caption: Any, clip: ShownClip | str, path: str, is_mistake: bool) -> Html:
    """The frames of a video below its description. In mistakes, regions that support the wrong class are orange."""
    body = strip_box(clip, path) if isinstance(clip, ShownClip) else el("p", clip, class_="note")
    return el("figure", el("figcaption", caption, el("small", path)), body, class_="mistake" if is_mistake else None)


def mistakes(report: RunReport) -> Html:
    """Section: film strips of the most confident mistakes."""
    rows = confident_mistakes(report.test.outcomes, NUM_MISTAKES)
    text = "The mistakes the model was most confident about. A bar pointing up: the frame supports the wrong class."
    return _strips(rows, report, text, if_none="No readable video was classified wrongly.")


def frames(report: RunReport) -> Html | None:
    """Section: film strips of right predictions; None if no frames are shown, for the reason that `mistakes` gives."""
    if isinstance(report.clips, str):
        return None
    text = (
        "Right videos. A bar pointing up: the frame supports the class; the longest of a strip is full height. The "
        "second row is the same frames, highlighted where they support the class."
    )
    how = (
        "A bar is the contribution of its frame to the log-odds of the predicted class, in nats: those of the clip, "
        "minus those with the frame replaced by its neighbour. Frames and bars are of one view, the centre crop of one "
        "clip; class and confidence are those of the test. docs/attribution.md describes their reliability."
    )
    shown = _strips(confident_hits(report.test.outcomes, NUM_HITS), report, text, if_none="No video was right.")
    return join([shown, el("details", el("summary", "How these are computed"), el("p", how, class_="note"))])


def _strips(rows: np.ndarray, report: RunReport, text: str, if_none: str) -> Html:
    if isinstance(report.clips, str):
        return el("p", f"Not shown: {report.clips}", class_="note")
    if len(rows) == 0:
        return el("p", if_none, class_="note")
    rest = [int(row) for row in rows if row not in opening_rows(report)]
    above = " The first one is at the top of the page." if len(rest) < len(rows) else ""
    return join([el("p", text, above), el("div", [film_strip(row, report) for row in rest], class_="strips")])
