"""Progress of long work: a bar on a terminal, plain lines in a log."""

import io
import sys
import time
from typing import Any

from tqdm import tqdm

SECONDS = 60
"""Between two lines in a log, and before the first."""
_LINE = "{desc} {n_fmt} of {total_fmt}, {rate_fmt}, {remaining} left"


class _Lines(io.TextIOBase):
    """The file of a bar whose states are lines, without the control characters that redraw a bar."""

    def write(self, text: str) -> int:
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)
        return len(text)


class _Bar(tqdm):
    """A bar whose speed and time left do not change if the system's clock is set."""

    def __init__(self, *args: Any, **named: Any):
        super().__init__(*args, **named)
        self._time = time.monotonic  # tqdm's own is time.time
        self.start_t = self.last_print_t = self._time()


def progress(*args: Any, plain: bool = False, lines: bool = True, disable: bool = False, **named: Any) -> tqdm:
    """tqdm's bar with speed and time left; if stderr is not a terminal, or with `plain`, a line every `SECONDS`.

    Args:
        args, named: as for `tqdm`.
        lines: False if the caller logs lines of its own, so that only a bar is shown.
        disable: show neither.
    """
    if sys.stderr.isatty() and not plain:
        return _Bar(*args, disable=disable, dynamic_ncols=True, **named)
    rare = {"mininterval": SECONDS, "miniters": 1, "delay": SECONDS, "position": 0, "leave": False}
    return _Bar(*args, disable=disable or not lines, file=_Lines(), bar_format=_LINE, **named | rare)
