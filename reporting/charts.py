"""Charts as inline SVG: lines and a reliability diagram. Colours are the page's (page.css)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reporting.html import Html, el
from reporting.outcomes import ReliabilityBin

WIDTH, HEIGHT = 400, 250  # of a chart, in its own units; the type is sized to stay legible on a phone
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 12, 44
MAX_POINTS = 400  # of a line; longer ones are drawn by the means of as many stretches


class Line(NamedTuple):
    """x and y (n,) of a line; NaN leaves a gap. `style`: class of the line in page.css: a, b, raw a ..."""

    name: str
    x: np.ndarray
    y: np.ndarray
    style: str
    has_dots: bool = False


def moving_mean(y: np.ndarray, window: int) -> np.ndarray:
    """(n,): mean of the last `window` finite values up to each place; NaN where there is none."""
    y = np.asarray(y, dtype=np.float64)
    finite = np.isfinite(y)
    sums, counts = (np.concatenate([[0.0], np.cumsum(v)]) for v in (np.where(finite, y, 0), finite))
    end = np.arange(1, len(y) + 1)
    start = np.maximum(end - window, 0)
    count = counts[end] - counts[start]
    return np.divide(sums[end] - sums[start], count, out=np.full(len(y), np.nan), where=count > 0)


def thinned(line: Line) -> Line:
    """At most `MAX_POINTS` points: means over equal stretches, of what is finite in them."""
    if len(line.x) <= MAX_POINTS:
        return line
    edges = np.linspace(0, len(line.x), MAX_POINTS + 1).astype(int)
    stretches = [(line.x[a:b], line.y[a:b][np.isfinite(line.y[a:b])]) for a, b in zip(edges, edges[1:])]
    y = np.array([values.mean() if len(values) else np.nan for _, values in stretches])
    return line._replace(x=np.array([x.mean() for x, _ in stretches]), y=y)


def ticks(low: float, high: float, at_most: int = 5) -> list[float]:
    """Round numbers that lie in low..high, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / at_most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def line_chart(
    lines: Sequence[Line], x_label: str, y_label: str, y_range: tuple[float | None, float | None] = (0, None)
) -> Html:
    """A chart with legend. x starts at 0; the range of y is that of the lines where an end of `y_range` is None."""
    lines = [thinned(line) for line in lines]
    x = np.concatenate([line.x for line in lines])
    y = np.concatenate([line.y for line in lines])
    y = y[np.isfinite(y)] if np.isfinite(y).any() else np.array([0.0])
    low = float(y.min()) if y_range[0] is None else y_range[0]
    high = 1.03 * float(y.max()) if y_range[1] is None else y_range[1]
    frame = _Frame(0, max(float(x.max()), 1), low, high if high > low else low + 1)
    parts = [frame.axes(x_label, y_label)]
    for line in lines:
        parts.append(el("path", d=frame.path(line.x, line.y), class_=f"line {line.style}"))
        if line.has_dots:
            parts += [
                el(
                    "circle",
                    el("title", f"{line.name}, {x_label} {px:.0f}: {py:.4g}"),
                    cx=cx,
                    cy=cy,
                    r=3.5,
                    class_=line.style,
                )
                for px, py in zip(line.x, line.y)
                if np.isfinite(py)
                for cx, cy in [frame.place(px, py)]
            ]
    legend = [el("li", el("i", class_=f"key {line.style}"), line.name) for line in lines]
    drawing = _svg(parts, f"{y_label} over {x_label}: {', '.join(line.name for line in lines)}")
    return el("figure", drawing, el("ul", legend, class_="legend"))


class _Frame(NamedTuple):
    """The data's ranges, mapped to the chart's inside."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x_low) / (self.x_high - self.x_low)
        up = (y - self.y_low) / (self.y_high - self.y_low)
        return (
            round(_LEFT + across * (WIDTH - _LEFT - _RIGHT), 1),
            round(HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM), 1),
        )

    def path(self, x: np.ndarray, y: np.ndarray) -> str:
        words, pen = [], "M"
        for px, py in zip(x, y):
            if not np.isfinite(py):
                pen = "M"
                continue
            words.append(f"{pen}{' '.join(map(str, self.place(px, py)))}")
            pen = "L"
        return "".join(words)

    def axes(self, x_label: str, y_label: str) -> list[Html]:
        parts = []
        for value in ticks(self.y_low, self.y_high):
            _, y = self.place(self.x_low, value)
            parts.append(el("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
            parts.append(el("text", _short(value), x=_LEFT - 6, y=y + 4, class_="end"))
        for value in ticks(self.x_low, self.x_high):
            x, y = self.place(value, self.y_low)
            parts.append(el("text", _short(value), x=x, y=y + 18, class_="middle"))
        middle = (HEIGHT - _BOTTOM + _TOP) / 2
        parts.append(el("text", x_label, x=(WIDTH + _LEFT) / 2, y=HEIGHT - 6, class_="middle label"))
        parts.append(el("text", y_label, transform=f"translate(12 {middle}) rotate(-90)", class_="middle label"))
        return parts


def _svg(parts: Sequence[Html], label: str) -> Html:
    return el("svg", el("title", label), parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", class_="chart")


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.0e}".replace("e-0", "e-") if 0 < abs(value) < 1e-3 else f"{value:.6g}"


def reliability_diagram(bins: Sequence[ReliabilityBin]) -> Html:
    """Share of right videos in each bin of confidence, against the diagonal; below it, how many videos a bin has."""
    frame = _Frame(0, 1, 0, 1)
    parts = [frame.axes("confidence", "accuracy")]
    total = max(sum(b.count for b in bins), 1)
    for place, found in enumerate(bins):
        if not found.count:
            continue
        (x1, bottom), (x2, top) = (
            frame.place(place / len(bins), 0),
            frame.place((place + 1) / len(bins), found.accuracy),
        )
        _, expected = frame.place(0, found.confidence)
        said = (
            f"confidence {place / len(bins):.2f} to {(place + 1) / len(bins):.2f}: {found.count} videos "
            f"({100 * found.count / total:.1f}%), mean confidence {found.confidence:.3f}, accuracy {found.accuracy:.3f}"
        )
        # A bin with few videos is drawn faint: its height means little.
        strength = 0.35 + 0.65 * min(1.0, found.count / total * len(bins))
        gap = {"x": x1 + 1, "width": round(x2 - x1 - 2, 1)}
        parts.append(
            el(
                "g",
                el("title", said),
                el("rect", y=top, height=round(bottom - top, 1), class_="bar", opacity=round(strength, 2), **gap),
                el("rect", y=min(top, expected), height=round(abs(expected - top), 1), class_="gap", **gap),
            )
        )
    (x1, y1), (x2, y2) = frame.place(0, 0), frame.place(1, 1)
    parts.append(el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="diagonal"))
    legend = [
        el("li", el("i", class_="key bar"), "accuracy (faint: few videos)"),
        el("li", el("i", class_="key gap"), "distance to the mean confidence"),
    ]
    return el("figure", _svg(parts, "Reliability diagram"), el("ul", legend, class_="legend"))


def confidence_histogram(bins: Sequence[ReliabilityBin]) -> Html:
    """Share of the videos in each bin of confidence, in percent."""
    total = max(sum(b.count for b in bins), 1)
    shares = [100 * b.count / total for b in bins]
    frame = _Frame(0, 1, 0, max(max(shares), 1e-9))
    parts = [frame.axes("confidence", "videos, %")]
    for place, (share, found) in enumerate(zip(shares, bins)):
        (x1, bottom), (x2, top) = frame.place(place / len(bins), 0), frame.place((place + 1) / len(bins), share)
        bar = {"x": x1 + 1, "width": round(x2 - x1 - 2, 1), "y": top, "height": round(bottom - top, 1)}
        parts.append(el("rect", el("title", f"{found.count} videos ({share:.1f}%)"), class_="bar", **bar))
    return el("figure", _svg(parts, "How many videos have which confidence"))
