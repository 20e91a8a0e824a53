"""What a run tells: console and log.txt for people, metrics.jsonl and TensorBoard for programs."""

import json
import logging
import sys
import time
from collections.abc import Sequence
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from tqdm import tqdm

from utils.distributed import Process
from utils.files import write_text_atomic


class _BarFriendlyHandler(logging.Handler):
    """Console lines that do not break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def open_log(process: Process, warnings: Sequence[str] = ()) -> logging.Logger:
    """A log on the console: of the main process; the others show only their errors.

    What is said is also remembered until `log_to_file`.

    Args:
        warnings: what the config's reading warned of, to be the log's first lines.
    """
    logger = logging.getLogger()
    logger.setLevel(logging.INFO)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    console = _BarFriendlyHandler(logging.INFO if process.is_main else logging.ERROR)
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
        file = logging.FileHandler(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
        memory.setTarget(file)
        memory.flush()
        logger.removeHandler(memory)
        logger.addHandler(file)


def progress_bar(total: int, unit: str, description: str, process: Process) -> tqdm:
    """A bar on the main process's terminal; none where the output is a file, so that logs stay readable."""
    return tqdm(
        total=total,
        unit=unit,
        desc=description,
        disable=None if process.is_main else True,
        leave=False,
        dynamic_ncols=True,
    )


class MetricsWriter:
    """One JSON line a record in metrics.jsonl, the same numbers in TensorBoard; only the main process writes."""

    def __init__(self, run_dir: Path, process: Process, tensorboard: bool, from_step: int, in_epoch: bool = False):
        """Records past `from_step` in an existing file are dropped: a resumed run writes them again.

        `in_epoch`: it goes on within an epoch, perhaps after its last step; a validation there is still to come.
        """
        self._file = self._board = None
        if process.is_main:
            path = run_dir / "metrics.jsonl"
            if path.exists():
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                # A kill may have torn the last line.
                whole = [(json.loads(line), line) for line in lines if line.endswith("}\n")]
                last = {"train": from_step, "val": from_step - in_epoch}
                write_text_atomic(path, "".join(line for r, line in whole if r["step"] <= last[r["kind"]]))
            self._file = path.open("a", encoding="utf-8")
        if tensorboard and process.is_main:
            # Imported here: it takes a second, and only the main process of a run that wants it pays.
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=from_step + 1)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Record `values` of optimiser step `step`. `kind` is `train` or `val`."""
        if self._file is None:
            return
        self._file.write(json.dumps({"kind": kind, "step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()
