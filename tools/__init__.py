"""Commands, run by `python -m tools.NAME`."""

import sys
from types import TracebackType

from utils.cli import explain_failure
from utils.terminal import print_error_line


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print one line for lack of memory during the imports of a command; later errors are those of `run_command`."""
    line = explain_failure(error)[1]
    if line is None or "--debug" in sys.argv:
        sys.__excepthook__(kind, error, trace)
    else:
        print_error_line(f"error: {line}")


sys.excepthook = _explain
