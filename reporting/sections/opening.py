"""The top of a run's page: the result in one sentence, and a right and a wrong video."""

import numpy as np

from reporting.confusion import confused_pairs, distinct_word, group_classes
from reporting.html import Html, count_of, el, join
from reporting.inputs import RunReport
from reporting.run_folder import TestResult
from reporting.sections.strips import film_strip, opening_rows

HOW_TO_READ = "The bars are the contributions of the frames to the predicted class, up for it and down against it: "


def opening(report: RunReport) -> Html:
    """The top of a report: the result in a sentence, and a right and a wrong video."""
    run, test = report.run, report.test
    said, rest = verdict(report)
    strips = [
        el("div", el("h2", title), film_strip(row, report), class_="shown")
        for title, row in zip(("Right", "Wrong"), opening_rows(report))
        if row is not None
    ]
    return join(
        [
            el("p", f"Report: {run.name}", class_="eyebrow"),
            el("h1", el("strong", said), rest),
            el("div", strips, class_="strips") if strips else None,
            el("p", HOW_TO_READ, el("a", "details", href="#frames"), ".", class_="note") if strips else None,
            el("p", f"Details of test {test.name}: {describe_test(test)}.", class_="note"),
        ]
    )


def verdict(report: RunReport) -> tuple[str, str]:
    """Accuracy and the main confusions, as two parts of a sentence."""
    outcomes, confusion, names = report.test.outcomes, report.confusion, report.test.class_names
    num_videos = len(outcomes.labels)
    share = 100 * float(outcomes.is_top1.mean())
    all_right = outcomes.is_top1.all()
    said = f"All {count_of(num_videos, 'video')} right" if all_right else f"{share:.1f}% of {num_videos:,} videos right"
    num_missing = int((~outcomes.is_readable).sum())
    missing = f" {count_of(num_missing, 'video')} could not be read." if num_missing else ""
    pairs = confused_pairs(confusion, 1)
    if not pairs:
        return said, f".{missing}"
    groups = group_classes(confusion).groups
    members = [names[c] for c in groups[0]] if groups else []
    word = distinct_word(members, names) if len(members) > 3 else None
    if word:
        return said, f"; it confuses the {len(members)} classes with “{word}”.{missing}"
    if 1 < len(members) <= 3:
        listed = [f"“{name}”" for name in members]
        return said, f"; it confuses {', '.join(listed[:-1])} and {listed[-1]}.{missing}"
    row, column, _ = pairs[0]
    how = "confuses “{}” and “{}”" if confusion[column, row] else "most often takes “{}” for “{}”"
    return said, f"; it {how.format(names[row], names[column])}.{missing}"


def describe_test(test: TestResult) -> str:
    """Model, data and views in one line."""
    network = test.scores["config"]["network"]
    head = f"temporal head {network['sim_header']}" + (f", {network['tm']}" if network["tm"] else "")
    head += ", joint space-time attention" if network["joint_st"] else ""
    labels, data = test.table.labels, ", ".join(test.lists)
    classes = count_of(int(labels.any(axis=0).sum()) if test.is_multi_label else len(np.unique(labels)), "class")
    videos = count_of(len(test.table.paths), "video")
    return f"{network['arch']}, {head}; {videos} in {classes} of {data}; {describe_views(test)}"


def describe_views(test: TestResult) -> str:
    """The views of a test in words."""
    views = test.scores["views"]
    dense = ", dense" if views.get("dense") else ""
    if test.num_views == 1:
        return f"1 view{dense}"
    return f"{count_of(views['clips'], 'clip')} × {count_of(views['crops'], 'crop')}{dense}"
