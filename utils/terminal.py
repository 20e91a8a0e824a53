"""Coloured errors and warnings on a terminal, and what happens when it is closed."""

import os
import re
import stat
import sys
from typing import TextIO

from utils.odd_names import printable

_COLOURS = {"error": "31", "warning": "33"}  # red and yellow of the terminal's own palette
_LABEL = re.compile(r"(error|warning)\b[^:\n]*:", re.IGNORECASE)


def coloured(line: str, stream: TextIO) -> str:
    """Colour the label at the start of `line` (`error:`, `WARNING:`) if `stream` is a terminal.

    The environment variable NO_COLOR (https://no-color.org) disables colours.
    """
    label = _LABEL.match(line)
    if label is None or not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return line
    return f"\033[1;{_COLOURS[label[1].lower()]}m{label[0]}\033[0m{line[label.end() :]}"


def print_error_line(line: str) -> None:
    """Print a line that begins with `error:` or `warning:` to stderr, and flush."""
    print(coloured(printable(line), sys.stderr), file=sys.stderr, flush=True)


def leave_terminal() -> bool:
    """Replace stdout and stderr by the null device where they are a terminal, after it was closed (SIGHUP): every write
    to it fails. Returns whether stdout was one."""
    null = os.open(os.devnull, os.O_WRONLY)
    # For isatty, a closed terminal is none any more.
    found = [descriptor for descriptor in (1, 2) if stat.S_ISCHR(os.fstat(descriptor).st_mode)]
    for descriptor in found:
        os.dup2(null, descriptor)
    os.close(null)
    return 1 in found
