"""What a command prints: on the console, and in a run's log.txt."""

import logging
import sys
from collections.abc import Sequence
from logging.handlers import MemoryHandler
from pathlib import Path

from tqdm import tqdm

from utils.distributed import Process
from utils.terminal import coloured

RESULT = 25  # level of what a run was for: `--quiet` still shows it, and warnings (30) and errors
_has_bars = True


class _BarFriendlyHandler(logging.Handler):
    """Writes console lines that do not break a progress bar. Raises BrokenPipeError where stdout is closed."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(coloured(self.format(record), sys.stdout), file=sys.stdout)
        sys.stdout.flush()


class LogFile(logging.FileHandler):
    """log.txt; on a full disk it misses lines, of which one warning tells."""

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
    """A log on the console: of the main process; the others show only their errors.

    What is said is also remembered until `log_to_file`.

    Args:
        warnings: what the config's reading warned of, to be the log's first lines.
        quiet: only results, warnings and errors on the console, and no progress bars; the file gets all.
        plain: no progress bars, as where the output is not a terminal.
    """
    global _has_bars
    _has_bars = not (quiet or plain)
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
    """From now on, and with all that was said before, the log goes to the file `path` too, which is appended to."""
    logger = logging.getLogger()
    for memory in [h for h in logger.handlers if isinstance(h, MemoryHandler)]:
        file = LogFile(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
        memory.setTarget(file)
        memory.flush()
        logger.removeHandler(memory)
        logger.addHandler(file)


def progress_bar(total: int, unit: str, description: str, process: Process) -> tqdm:
    """A bar on the main process's terminal; none in a file, where a log must stay readable, and with `--plain`."""
    return tqdm(
        total=total,
        unit=unit,
        desc=description,
        disable=None if process.is_main and _has_bars else True,
        leave=False,
        dynamic_ncols=True,
    )
