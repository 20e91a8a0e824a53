"""The HTML reports of report.py: statistics of a table of embeddings, and the pages that show them.

A section is a function of a `RunReport` or `Comparison` in its own file, and a line in one of the tables here, which
have the order of the page. If the function returns None, the section is omitted.
"""

from functools import partial
from typing import Any

from modules.attribution import ShownClip
from reporting.comparison.classes import classes as classes_of_two
from reporting.comparison.difference import difference
from reporting.comparison.opening import opening as opening_of_two
from reporting.comparison.settings import settings
from reporting.comparison.videos import videos_only_right_by
from reporting.html import Part, page
from reporting.inputs import Comparison, Pair, RunReport, Section
from reporting.run_folder import Run, TestResult
from reporting.sections.calibration import calibration, calibration_of_two
from reporting.sections.classes import classes
from reporting.sections.confusions import confusions
from reporting.sections.curves import curves, curves_of_two
from reporting.sections.embedding_map import embedding_map
from reporting.sections.multi_label import average_precision_by_class, multi_label_opening, multi_label_scores
from reporting.sections.opening import opening
from reporting.sections.recipe import recipe
from reporting.sections.scores import scores
from reporting.sections.strips import frames, mistakes

RUN_SECTIONS: list[Section[RunReport]] = [
    Section("scores", "Scores", scores),
    Section("confusion", "Confusions", confusions),
    Section("mistakes", "Most confident mistakes", mistakes),
    Section("frames", "Which frames mattered", frames),
    Section("calibration", "Calibration", calibration),
    Section("classes", "Accuracy by class", classes),
    Section("map", "Embedding map", embedding_map),
    Section("curves", "Training curves", curves),
    Section("recipe", "Recipe and commands", recipe),
]
MULTI_LABEL_SECTIONS: list[Section[RunReport]] = [
    Section("scores", "Scores", multi_label_scores),
    Section("classes", "Average precision by class", average_precision_by_class),
    Section("curves", "Training curves", curves),
    Section("recipe", "Recipe and commands", recipe),
]
COMPARISON_SECTIONS: list[Section[Comparison]] = [
    Section("difference", "Differences and their significance", difference),
    Section("classes", "Accuracy by class", classes_of_two),
    Section("only-b", "Videos that only B gets right", partial(videos_only_right_by, 1)),
    Section("only-a", "Videos that only A gets right", partial(videos_only_right_by, 0)),
    Section("calibration", "Calibration", calibration_of_two),
    Section("curves", "Training curves", curves_of_two),
    Section("settings", "Settings that differ", settings),
]


def run_page(run: Run, test: TestResult, clips: dict[int, ShownClip | str] | str) -> str:
    """The page of a run, with the details of one of its tests.

    Args:
        clips: of `rows_to_show`, by row; a text for a video that cannot be shown, or one text for all of them.
    """
    report = RunReport(run, test, clips)
    top, sections = (multi_label_opening, MULTI_LABEL_SECTIONS) if test.is_multi_label else (opening, RUN_SECTIONS)
    return page(f"Report: {run.name}", top(report), _parts(sections, report))


def comparison_page(run: Run, other: Run, pair: Pair, clips: dict[int, ShownClip | str] | str) -> str:
    """The page of two runs.

    Args:
        clips: of `reporting.comparison.opening.rows_to_show`, as of `run_page`.
    """
    comparison = Comparison(run, other, pair, clips)
    title = f"Comparison: {run.name} and {other.name}"
    return page(title, opening_of_two(comparison), _parts(COMPARISON_SECTIONS, comparison))


def _parts(sections: list[Section[Any]], subject: RunReport | Comparison) -> list[Part]:
    made = [Part(section.id, section.title, section.content(subject)) for section in sections]
    return [part for part in made if part.content is not None]
