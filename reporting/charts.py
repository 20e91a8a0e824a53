"""Charts as inline SVG with direct labels instead of legends. Colours are those of page/page.css."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reporting.html import Html, el, number, table
from reporting.outcomes import ReliabilityBin

WIDTH, HEIGHT = 420, 250  # of a chart, in SVG units; the font size is legible on phones
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 44
_CHARACTER = 7.6  # mean width of a bold letter
_LINE = 15.0  # height of a line of text
MAX_POINTS = 400  # per line; longer lines are averaged over as many intervals


class Line(NamedTuple):
    """x and y (n,) of a line; NaN leaves a gap. `style`: class of the line in page.css: a, b, raw, dashed a ...

    A line with an empty `name` has no label.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    style: str
    has_dots: bool = False


def moving_mean(y: np.ndarray, window: int) -> np.ndarray:
    """(n,): mean of the last `window` finite values up to each position; NaN if there is none."""
    y = np.asarray(y, dtype=np.float64)
    finite = np.isfinite(y)
    sums, counts = (np.concatenate([[0.0], np.cumsum(v)]) for v in (np.where(finite, y, 0), finite))
    end = np.arange(1, len(y) + 1)
    start = np.maximum(end - window, 0)
    count = counts[end] - counts[start]
    return np.divide(sums[end] - sums[start], count, out=np.full(len(y), np.nan), where=count > 0)


def thinned(line: Line) -> Line:
    """At most `MAX_POINTS` points: means of the finite values in equal intervals."""
    if len(line.x) <= MAX_POINTS:
        return line
    edges = np.linspace(0, len(line.x), MAX_POINTS + 1).astype(int)
    stretches = [(line.x[a:b], line.y[a:b][np.isfinite(line.y[a:b])]) for a, b in zip(edges, edges[1:])]
    y = np.array([values.mean() if len(values) else np.nan for _, values in stretches])
    return line._replace(x=np.array([x.mean() for x, _ in stretches]), y=y)


def ticks(low: float, high: float) -> list[float]:
    """Up to six round numbers in low..high, with a step of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Distinct labels of the ticks of an axis: 2000, 10k, 0.05, 1.5e-4."""
    largest = max(abs(value) for value in values)
    return [_short(value, largest) for value in values]


def _short(value: float, largest: float) -> str:
    if value == 0:
        return "0"
    if largest >= 10_000:
        return f"{value / 1000:.10g}k"
    if largest >= 0.01:
        return f"{value:.10g}"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    return f"{value / 10.0**exponent:.10g}e{exponent}"


class Frame(NamedTuple):
    """Maps data ranges to the inside of a chart. `right`: right margin for labels."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    right: float = _RIGHT

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x_low) / (self.x_high - self.x_low)
        up = (y - self.y_low) / (self.y_high - self.y_low)
        return (
            round(_LEFT + across * (WIDTH - _LEFT - self.right), 1),
            round(HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM), 1),
        )

    def path(self, x: np.ndarray, y: np.ndarray) -> str:
        """The `d` attribute of a line through the points; NaN in `y` starts a new line."""
        commands = []
        command = "M"
        for point_x, point_y in zip(x, y):
            if not np.isfinite(point_y):
                command = "M"
                continue
            across, down = self.place(point_x, point_y)
            commands.append(f"{command}{across} {down}")
            command = "L"
        return "".join(commands)

    def axes(self, x_label: str) -> list[Html]:
        parts = []
        up, across = ticks(self.y_low, self.y_high), ticks(self.x_low, self.x_high)
        for value, label in zip(up, tick_labels(up)):
            _, y = self.place(self.x_low, value)
            parts.append(el("line", x1=_LEFT, x2=WIDTH - self.right, y1=y, y2=y, class_="grid"))
            parts.append(el("text", label, x=_LEFT - 6, y=y + 4, class_="end"))
        for value, label in zip(across, tick_labels(across)):
            x, y = self.place(value, self.y_low)
            parts.append(el("text", label, x=x, y=y + 18, class_="middle"))
        middle = (WIDTH - self.right + _LEFT) / 2
        return [*parts, el("text", x_label, x=middle, y=HEIGHT - 6, class_="middle")]


def line_chart(lines: Sequence[Line], title: str, y_range: tuple[float | None, float | None] = (0, None)) -> Html:
    """Lines over the steps of a training, with their names at their ends. x starts at 0; None in `y_range` is the limit
    of the lines."""
    lines = [thinned(line) for line in lines]
    x = np.concatenate([line.x for line in lines])
    y = np.concatenate([line.y for line in lines])
    y = y[np.isfinite(y)] if np.isfinite(y).any() else np.array([0.0])
    low = float(y.min()) if y_range[0] is None else y_range[0]
    high = 1.03 * float(y.max()) if y_range[1] is None else y_range[1]
    right = max(_RIGHT, 14 + _CHARACTER * max(len(line.name) for line in lines))
    frame = Frame(0, max(float(x.max()), 1), low, high if high > low else low + 1, min(right, WIDTH * 0.4))
    parts = frame.axes("step")
    for line in lines:
        parts.append(el("path", d=frame.path(line.x, line.y), class_=f"line {line.style}"))
        if line.has_dots:
            places = [frame.place(px, py) for px, py in zip(line.x.tolist(), line.y.tolist()) if np.isfinite(py)]
            parts += [el("circle", cx=cx, cy=cy, r=3.5, class_=line.style) for cx, cy in places]
    parts += _end_labels(lines, frame)
    names = ", ".join(line.name for line in lines if line.name)
    return _figure(title, parts, f"{title} over step: {names}")


def _end_labels(lines: Sequence[Line], frame: Frame) -> list[Html]:
    """The name of each line to the right of its last finite point; overlapping names are moved down."""
    ends = []
    for line in lines:
        finite = np.flatnonzero(np.isfinite(line.y))
        if line.name and len(finite):
            x, y = frame.place(float(line.x[finite[-1]]), float(line.y[finite[-1]]))
            ends.append((x, y, line))
    ends.sort(key=lambda end: end[1])
    heights: list[float] = []
    for _, y, _ in ends:
        heights.append(max(y, heights[-1] + _LINE if heights else _TOP))
    for i in reversed(range(len(heights))):  # not below the axis
        heights[i] = min(heights[i], HEIGHT - _BOTTOM - _LINE * (len(heights) - 1 - i))
    return [
        el("text", line.name, x=x + 7, y=round(height + 4, 1), class_=f"name {line.style}")
        for (x, _, line), height in zip(ends, heights)
    ]


def _figure(title: str, parts: Sequence[Html], description: str) -> Html:
    drawing = el("svg", el("title", description), parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", class_="chart")
    return el("figure", el("figcaption", title), drawing)


def reliability_diagram(bins: Sequence[ReliabilityBin], title: str) -> Html:
    """A dot per confidence bin, whose size is the number of videos; its stem is the distance to the diagonal."""
    frame = Frame(0, 100, 0, 100)
    parts = frame.axes("confidence, %")
    (x1, y1), (x2, y2) = frame.place(0, 0), frame.place(100, 100)
    parts.append(el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="diagonal"))
    total = max(sum(b.count for b in bins), 1)
    for b in bins:
        if b.count:
            x, y = frame.place(100 * b.confidence, 100 * b.accuracy)
            _, expected = frame.place(0, 100 * b.confidence)
            radius = round(3 + 9 * math.sqrt(b.count / total), 1)
            opacity = round(min(1.0, 0.25 + b.count / 20), 2)  # bins with few videos are uncertain
            parts.append(el("line", x1=x, x2=x, y1=expected, y2=y, class_="stem", opacity=opacity))
            parts.append(el("circle", cx=x, cy=y, r=radius, class_="bin"))
    for label, (confidence, accuracy), side in (
        ("underconfident", (4, 90), "start"),
        ("overconfident", (97, 6), "end"),
    ):
        x, y = frame.place(confidence, accuracy)
        parts.append(el("text", label, x=x, y=y, class_=f"aside {side}"))
    return _figure(title, parts, "Accuracy by confidence; the table has the values")


def confidence_histogram(bins: Sequence[ReliabilityBin]) -> Html:
    """Share of the videos in each bin of confidence, in percent."""
    total = max(sum(b.count for b in bins), 1)
    shares = [100 * b.count / total for b in bins]
    frame = Frame(0, 100, 0, max(max(shares), 1e-9) * 1.12)
    parts = frame.axes("confidence, %")
    for place, (share, b) in enumerate(zip(shares, bins)):
        x1, bottom = frame.place(100 * place / len(bins), 0)
        x2, top = frame.place(100 * (place + 1) / len(bins), share)
        width, height = round(x2 - x1 - 2, 1), round(bottom - top, 1)
        parts.append(el("rect", class_="bar", x=x1 + 1, width=width, y=top, height=height))
        if b.count:
            parts.append(el("text", b.count, x=round((x1 + x2) / 2, 1), y=top - 4, class_="middle small"))
    return _figure("Share of videos, % (above: number)", parts, "Share of videos by confidence")


def reliability_table(bins: Sequence[ReliabilityBin], caption: str) -> Html:
    """The values of both calibration charts."""
    rows = [
        [
            f"{100 * place / len(bins):.0f} to {100 * (place + 1) / len(bins):.0f}",
            number(b.count, 0),
            number(100 * b.confidence),
            number(100 * b.accuracy),
        ]
        for place, b in enumerate(bins)
        if b.count
    ]
    grid = table(["confidence, %", "videos", "mean confidence, %", "right, %"], rows, caption)
    return el("details", el("summary", "The values as a table"), grid)
