"""Intervals of checkpoints in steps or minutes, and of windows in seconds."""

import math

from utils.errors import UserError

MIN_SECONDS = 1e-3
"""Shortest window and stride. Shorter ones than a frame repeat it, and a frame must not give windows without end."""


def parse_interval(text: int | str | None) -> tuple[float | None, float | None]:
    """Parse an interval, `500` (steps) or `10min` (minutes), into (steps, seconds), one of which is None; both for
    None. Raises a ValueError if it is neither, or not positive."""
    if text is None:
        return None, None
    if isinstance(text, str) and not text.endswith("min"):
        raise ValueError(text)
    value = float(text.removesuffix("min")) if isinstance(text, str) else text
    if not value > 0:
        raise ValueError(text)
    return (None, 60 * value) if isinstance(text, str) else (value, None)


def check_times(
    window: float | None, stride: float | None, fps: float, max_seconds: float | None = None, prefix: str = ""
) -> None:
    """Check lengths of windows (`inference.windows.WindowReader.windows`). Raises a UserError if one is not finite,
    window (if not 0) or stride are below MIN_SECONDS, or another one is not above 0."""
    if window is not None and window != 0 and not MIN_SECONDS <= window < math.inf:
        raise UserError(f"{prefix}window {window:g}: must be at least {MIN_SECONDS:g} seconds, or 0 for one clip")
    if stride is not None and not MIN_SECONDS <= stride < math.inf:
        raise UserError(f"{prefix}stride {stride:g}: must be finite and at least {MIN_SECONDS:g} seconds")
    for name, value in (("fps", fps), ("seconds", max_seconds)):
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{prefix}{name} {value:g}: must be finite and above 0")
