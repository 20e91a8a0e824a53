"""The confusion matrix of a test as CSV and PNG. K classes."""

from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from utils.csv_files import write_csv
from utils.files import atomic_path

MAX_NAMES = 60
"""Up to this number of classes the axes have names, above it ids."""


TABLE, PICTURE = CONFUSION_FILES = ("confusion.csv", "confusion.png")


def write_confusion(folder: Path, confusion: np.ndarray, names: list[str]) -> None:
    """Write confusion.csv (numbers of videos; rows are true classes, columns predictions) and confusion.png.

    Args:
        confusion: int (K,K), from `reporting.confusion.confusion_matrix`.
        names: K class names.
    """
    rows = ([name, *row] for name, row in zip(names, confusion.tolist()))
    write_csv(folder / TABLE, ["class", *names], rows)
    shares = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = min(4 + 0.22 * min(len(names), MAX_NAMES), 16)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    norm = PowerNorm(0.5, 0, 100)  # makes rare confusions visible
    diagonal = np.eye(len(names), dtype=bool)
    for kind, hidden, colours in (("right", ~diagonal, "Blues"), ("wrong", diagonal, "Oranges")):
        cells = np.ma.masked_where(hidden | (shares == 0), shares)
        drawn = axis.imshow(cells, cmap=colours, norm=norm, interpolation="nearest")
        figure.colorbar(drawn, shrink=0.4, pad=0.02, label=f"{kind}, % of the class")
    if len(names) <= MAX_NAMES:
        # matplotlib reads text between dollar signs as a formula
        shown = [name.replace("$", r"\$") for name in names]
        axis.set_xticks(range(len(names)), shown, rotation=90, fontsize=7)
        axis.set_yticks(range(len(names)), shown, fontsize=7)
    axis.set_xlabel("predicted class", fontsize=8 + side / 3)
    axis.set_ylabel("true class", fontsize=8 + side / 3)
    with atomic_path(folder / PICTURE) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
