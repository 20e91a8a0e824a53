"""What a test leaves behind: predictions.csv and summary.json."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import atomic_path, write_text_atomic
from utils.metrics import softmax


def write_predictions(
    path: str | Path, paths: list[str], labels: np.ndarray, logits: np.ndarray, names: list[str]
) -> None:
    """One line a video: its path, its class, the five best classes and their probabilities.

    Args:
        labels: int (N,). logits: (N,K), of the evaluation's temperature, so that their softmax are the probabilities.
    """
    num_best = min(5, logits.shape[1])
    best = np.argsort(-logits, axis=1, kind="stable")[:, :num_best]
    probabilities = np.take_along_axis(softmax(logits), best, axis=1)
    header = ["path", "label", "class", "correct"]
    header += [f"{what}{rank}" for rank in range(1, num_best + 1) for what in ("top", "prob")]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row, label in enumerate(labels):
            cells = [paths[row], int(label), names[label], int(best[row, 0] == label)]
            for k in range(num_best):
                cells += [names[best[row, k]], f"{probabilities[row, k]:.6f}"]
            writer.writerow(cells)


def write_summary(path: str | Path, **values: Any) -> None:
    """The figures of a test and what was tested, as JSON."""
    write_text_atomic(path, json.dumps(values, indent=2) + "\n")


def format_table(rows: list[tuple[str, ...]]) -> str:
    """Rows of text with aligned columns; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
