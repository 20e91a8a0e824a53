"""The result of a prediction: classes over time, segments, tables and JSON.

Legend: W windows, K classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from inference.windows import Window
from modules.attribution import ShownClip
from utils.errors import UserError
from utils.results import format_table

UNKNOWN = "unknown"
"""Shown instead of a class if the best one is less probable than the threshold."""
MAX_STRIPS = 6
"""Number of windows whose frames pictures show."""
MAX_KEPT_CLIPS = 12
"""Number of evenly spaced clips of a prediction that are kept for plots."""


class Segment(NamedTuple):
    """Adjacent windows of one class. `start`, `end`: seconds; `probability`: mean over the windows for the class, or
    for the best class if it is `unknown`."""

    start: float
    end: float
    class_name: str
    probability: float


@dataclass(frozen=True)
class VideoPrediction:
    """The classes of one video. `print` it for a table."""

    source: str  # the file, folder, camera or URL
    spans: np.ndarray  # float (W,2): start and end of each window in seconds, in order
    probabilities: np.ndarray  # float32 (W,K), rows sum to 1
    class_names: list[str]  # K names
    threshold: float = 0.0  # if the best probability is lower, the class is `unknown`
    clips: tuple[tuple[int, ShownClip], ...] = ()  # some of the windows' clips, with their numbers, for pictures

    @property
    def mean_probabilities(self) -> np.ndarray:
        """(K,): mean over the windows, weighted by the covered time."""
        return np.average(self.probabilities, axis=0, weights=np.diff(self.shares())[:, 0])

    def top(self, k: int = 5, window: int | None = None) -> list[tuple[str, float]]:
        """The k most probable classes and their probabilities: of the whole video, or of one window."""
        row = self.mean_probabilities if window is None else self.probabilities[window]
        return [(self.class_names[c], float(row[c])) for c in np.argsort(-row, kind="stable")[:k]]

    def verdict(self, window: int | None = None) -> tuple[str, float]:
        """The top class, or `unknown` if it is below the threshold, and the probability of the top class."""
        name, probability = self.top(1, window)[0]
        return (name if probability >= self.threshold else UNKNOWN), probability

    def shares(self) -> np.ndarray:
        """(W,2) seconds: the part of the video covered by each window, without overlap; adjacent windows meet halfway
        between their centres."""
        centres = self.spans.mean(axis=1)
        borders = (centres[1:] + centres[:-1]) / 2
        return np.stack([np.r_[self.spans[0, 0], borders], np.r_[borders, self.spans[-1, 1]]], axis=1)

    @property
    def segments(self) -> list[Segment]:
        """The segments of the video; adjacent windows of the same class are merged."""
        merged: list[list] = []
        for number, (start, end) in enumerate(self.shares().tolist()):
            name, probability = self.verdict(number)
            if merged and merged[-1][2] == name:
                merged[-1][1] = end
                merged[-1][3].append(probability)
            else:
                merged.append([start, end, name, [probability]])
        return [Segment(start, end, name, float(np.mean(p))) for start, end, name, p in merged]

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """Plain values for JSON; docs/predict.md explains the keys."""
        name, probability = self.verdict()
        return {
            "video": self.source,
            "class": name,
            "probability": round(probability, 6),
            "top": [{"class": c, "probability": round(p, 6)} for c, p in self.top(k)],
            "segments": [
                {"start": round(s, 3), "end": round(e, 3), "class": c, "probability": round(p, 6)}
                for s, e, c, p in self.segments
            ],
            "windows": [
                {"start": round(start, 3), "end": round(end, 3), "class": c, "probability": round(p, 6)}
                for (start, end), (c, p) in zip(self.spans.tolist(), map(self.verdict, range(len(self.spans))))
            ],
        }

    def values(self, k: int = 5) -> list[list[str | float]]:
        """A row for each window: see `csv_header`."""
        rows = []
        for number, (start, end) in enumerate(self.spans.tolist()):
            name, _ = self.verdict(number)
            rows.append([self.source, start, end, name, *chain.from_iterable(self.top(k, number))])
        return rows

    def rows(self, k: int = 5) -> list[list[str]]:
        """The cells of `values` in a CSV."""
        return [csv_row(values) for values in self.values(k)]

    def describe(self, k: int = 5) -> str:
        """The top k classes as a text table, followed by the segments if there are several windows."""
        name, probability = self.verdict()
        title = self.source
        if name == UNKNOWN:
            title += f": {UNKNOWN} (best class below {self.threshold:g})"
        top = format_table([("class", "probability"), *((c, f"{p:.4f}") for c, p in self.top(k))])
        if len(self.spans) == 1:
            return f"{title}\n{top}"
        rows = [("from", "to", "class", "probability")]
        rows += [(clock(s.start), clock(s.end), s.class_name, f"{s.probability:.4f}") for s in self.segments]
        return f"{title}\n{top}\n\n{format_table(rows)}"

    def __str__(self) -> str:
        return self.describe()


def spread(items: Sequence, count: int) -> Sequence:
    """`count` items, evenly spaced from first to last; all if there are not more."""
    if len(items) <= count:
        return items
    return [items[place] for place in np.linspace(0, len(items) - 1, count).round().astype(int)]


def csv_header(num_classes: int, k: int = 5) -> list[str]:
    """Columns of `VideoPrediction.rows`."""
    ranks = range(1, min(k, num_classes) + 1)
    return ["video", "start", "end", "class", *(f"{what}{rank}" for rank in ranks for what in ("top", "prob"))]


def csv_row(values: Iterable[str | float]) -> list[str]:
    """The cells of a row of `VideoPrediction.values`: times with three decimals, probabilities with six."""
    cells = []
    for column, value in enumerate(values):
        decimals = 3 if column < 3 else 6
        cells.append(f"{value:.{decimals}f}" if isinstance(value, float) else str(value))
    return cells


def clock(seconds: float) -> str:
    """`1:02:03.4`, or `2:03.4` below an hour."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    until_minutes = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{until_minutes}:{rest / 10:04.1f}"


def collect(
    stream: Iterable[tuple[Window, np.ndarray]], name: str, class_names: list[str], threshold: float = 0.0
) -> VideoPrediction:
    """Collect the results of `VideoModel.stream`. Only a few clips are kept, for any number of windows."""
    spans, rows, clips, every = [], [], [], 1
    for number, (window, probabilities) in enumerate(stream):
        spans.append((window.start, window.end))
        rows.append(probabilities)
        if number % every == 0:
            clips.append((number, ShownClip(window.clip)))
        if len(clips) > MAX_KEPT_CLIPS:
            clips, every = clips[::2], 2 * every
    if not rows:
        raise UserError(f"{name}: contains no frames")
    return VideoPrediction(name, np.array(spans), np.stack(rows), class_names, threshold, tuple(clips))
