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
    accuracy, rest = verdict(report)
    strips = [
        el("div", el("h2", title), film_strip(row, report), class_="shown")
        for title, row in zip(("Right", "Wrong"), opening_rows(report))
        if row is not None
    ]
    return join(
        [
            el("p", f"Report: {run.name}", class_="eyebrow"),
            el("h1", el("strong", accuracy), rest),
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
    accuracy = f"{share:.1f}% of {num_videos:,} videos right"
    if outcomes.is_top1.all():
        accuracy = f"All {count_of(num_videos, 'video')} right"
    num_unreadable = int((~outcomes.is_readable).sum())
    unreadable = f" {count_of(num_unreadable, 'video')} could not be read." if num_unreadable else ""
    pairs = confused_pairs(confusion, 1)
    if not pairs:
        return accuracy, f".{unreadable}"
    groups = group_classes(confusion).groups
    members = [names[c] for c in groups[0]] if groups else []
    word = distinct_word(members, names) if len(members) > 3 else None
    if word:
        return accuracy, f"; it confuses the {len(members)} classes with “{word}”.{unreadable}"
    if 1 < len(members) <= 3:
        quoted = [f"“{name}”" for name in members]
        return accuracy, f"; it confuses {', '.join(quoted[:-1])} and {quoted[-1]}.{unreadable}"
    row, column, _ = pairs[0]
    if confusion[column, row]:
        return accuracy, f"; it confuses “{names[row]}” and “{names[column]}”.{unreadable}"
    return accuracy, f"; it most often takes “{names[row]}” for “{names[column]}”.{unreadable}"


def describe_test(test: TestResult) -> str:
    """Model, data and views in one line."""
    network = test.scores["config"]["network"]
    model = [network["arch"], f"temporal head {network['sim_header']}"]
    if network["tm"]:
        model.append(network["tm"])
    if network["joint_st"]:
        model.append("joint space-time attention")
    labels = test.table.labels
    num_classes = int(labels.any(axis=0).sum()) if test.is_multi_label else len(np.unique(labels))
    data = f"{count_of(len(test.table.paths), 'video')} in {count_of(num_classes, 'class')} of {', '.join(test.lists)}"
    return f"{', '.join(model)}; {data}; {describe_views(test)}"


def describe_views(test: TestResult) -> str:
    """The views of a test in words."""
    views = test.scores["views"]
    dense = ", dense" if views.get("dense") else ""
    if test.num_views == 1:
        return f"1 view{dense}"
    return f"{count_of(views['clips'], 'clip')} × {count_of(views['crops'], 'crop')}{dense}"
