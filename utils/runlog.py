"""Logging to the console and to log.txt of a run."""

import errno
import logging
import sys
from collections.abc import Sequence
from logging.handlers import MemoryHandler
from pathlib import Path

from tqdm import tqdm

from utils.distributed import Process
from utils.progress import progress
from utils.terminal import coloured, leave_terminal

RESULT = 25  # log level of results, which `--quiet` still shows, like warnings (30) and errors
_is_quiet = _is_plain = False


class _BarFriendlyHandler(logging.Handler):
    """Console handler that does not break progress bars. Raises BrokenPipeError if stdout is closed, unless it is a
    terminal that was closed: later lines are then only written to log.txt."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(coloured(self.format(record), sys.stdout), file=sys.stdout)
            sys.stdout.flush()
        except OSError as error:
            if error.errno != errno.EIO or not leave_terminal():
                raise


class LogFile(logging.FileHandler):
    """Handler of log.txt; on a full disk lines are lost, with one warning."""

    _has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_failed:
            self._has_failed = True
            warning = f"WARNING: {self.baseFilename} is incomplete ({error.strerror})"
            tqdm.write(coloured(warning, sys.stdout), file=sys.stdout)


def open_log(
    process: Process, warnings: Sequence[str] = (), *, quiet: bool = False, plain: bool = False
) -> logging.Logger:
    """Log to the console; processes other than the main one log only errors.

    Records are also stored until `log_to_file`.

    Args:
        warnings: warnings from loading the config, logged first.
        quiet: show only results, warnings and errors on the console, and no progress; log.txt has everything.
        plain: show progress as lines, not as bars.
    """
    global _is_quiet, _is_plain
    _is_quiet, _is_plain = quiet, plain
    logger = logging.getLogger()
    logger.setLevel(logging.INFO)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    level = RESULT if quiet else logging.INFO
    console = _BarFriendlyHandler(level if process.is_main else logging.ERROR)
    console.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(console)
    if process.is_main:
        logger.addHandler(MemoryHandler(capacity=sys.maxsize, flushLevel=sys.maxsize, flushOnClose=False))
    logging.captureWarnings(True)
    for warning in warnings:
        logger.warning("warning: %s", warning)
    return logger


def log_to_file(path: Path) -> None:
    """Also log to the file `path` (appended), including all earlier records."""
    logger = logging.getLogger()
    for memory in [h for h in logger.handlers if isinstance(h, MemoryHandler)]:
        file = LogFile(path, encoding="utf-8", errors="backslashreplace")  # file names need not be UTF-8
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
        memory.setTarget(file)
        memory.flush()
        logger.removeHandler(memory)
        logger.addHandler(file)


def progress_bar(
    total: int, unit: str, description: str, process: Process, lines: bool = True, initial: int = 0
) -> tqdm:
    """`utils.progress.progress` on the main process, as `--plain` and `--quiet` were given to `open_log`."""
    shown = {"plain": _is_plain, "lines": lines, "disable": _is_quiet or not process.is_main}
    return progress(total=total, initial=initial, unit=unit, desc=description, leave=False, **shown)
