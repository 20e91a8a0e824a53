"""Outputs of tests: predictions.csv, tables of zero-shot scores, the suggested next command."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import atomic_path
from utils.metrics import softmax
from utils.protocols import mean_and_deviation
from utils.results import format_table, next_command


def write_predictions(path: Path, paths: list[str], labels: np.ndarray, logits: np.ndarray, names: list[str]) -> None:
    """Write one line per video: path, class or classes, top five classes and their probabilities.

    For a multi-label list, logits replace probabilities, and the prediction is correct if the top class is a label.

    Args:
        labels: int (N,), or multi-label (N,K) of 0 and 1.
        logits: (N,K), whose softmax are the probabilities.
    """
    num_best, is_multi_label = min(5, logits.shape[1]), labels.ndim == 2
    best = np.argsort(-logits, axis=1, kind="stable")[:, :num_best]
    values = np.take_along_axis(logits if is_multi_label else softmax(logits), best, axis=1)
    header = ["path", "label", "class", "correct"]
    value_name = "logit" if is_multi_label else "prob"
    header += [f"{what}{rank}" for rank in range(1, num_best + 1) for what in ("top", value_name)]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row, label in enumerate(labels):
            is_read = not np.isnan(logits[row]).any()  # otherwise the prediction cells are empty
            classes = np.flatnonzero(label).tolist() if is_multi_label else [int(label)]
            cells: list[Any] = [paths[row], ",".join(map(str, classes)), "; ".join(names[c] for c in classes)]
            cells.append(int(is_read and best[row, 0] in classes))
            for k in range(num_best if is_read else 0):
                cells += [names[best[row, k]], f"{values[row, k]:.6f}"]
            writer.writerow(cells)


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """The file name of each path, or the whole path if two have the same name."""
    paths = list(paths)
    names = [Path(path).name for path in paths]
    return {path: name if names.count(name) == 1 else path for path, name in zip(paths, names)}


def over_tests(summaries: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Mean and population deviation of full-class top-1 and top-5, or mAP, over several zero-shot tests."""
    figures = {}
    for name in ("full_top1", "full_top5", "map"):
        values = [s[name] for s in summaries.values() if name in s]
        if values:
            figures[f"{name}_mean"], figures[f"{name}_std"] = mean_and_deviation(values)
    return figures


def zero_shot_tables(summaries: dict[str, dict[str, Any]]) -> str:
    """The zero-shot scores as a text table, followed by a table of multi-label tests if there are any."""
    multi_label = {name: summary for name, summary in summaries.items() if "map" in summary}
    single_label = {name: summary for name, summary in summaries.items() if "map" not in summary}
    tables = [zero_shot_rows(single_label)] if single_label else []
    if multi_label:
        rows: list[tuple[str, ...]] = [("multi-label test", "videos", "classes", "mAP %")]
        for name, summary in multi_label.items():
            rows.append((name, str(summary["num_videos"]), str(summary["num_classes"]), f"{summary['map']:.2f}"))
        tables.append(rows)
    return "\n\n".join(format_table(rows) for rows in tables)


def zero_shot_rows(summaries: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows for `format_table`: one per test, and their mean if there are several."""
    titles = ("test", "videos", "classes", "top-1 %", "top-5 %", "half classes: top-1 %", "top-5 %")
    rows: list[tuple[str, ...]] = [titles]
    for name, summary in summaries.items():
        sizes = (str(summary["num_videos"]), str(summary["num_classes"]))
        full = (f"{summary['full_top1']:.2f}", f"{summary['full_top5']:.2f}")
        rows.append((name, *sizes, *full, *_with_deviations(summary, "half")))
    if len(summaries) > 1:
        rows.append((f"mean of {len(summaries)}", "", "", *_with_deviations(over_tests(summaries), "full"), "", ""))
    return rows


def _with_deviations(scores: dict[str, Any], kind: str) -> list[str]:
    """Top-1 and top-5 as `mean +- deviation`. `kind`: full or half."""
    return [f"{scores[f'{kind}_{name}_mean']:.2f} +- {scores[f'{kind}_{name}_std']:.2f}" for name in ("top1", "top5")]


def next_report(weights: str | None, out: Path) -> str:
    """The report command for the results in `out`, or for the whole run if they are in its folder."""
    is_beside = weights is not None and out.parent == Path(weights).parent
    return next_command("python", "report.py", str(out.parent if is_beside else out))
