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
from utils.hashing import content_hash

RESULT = 25  # level of what a run was for: `--quiet` still shows it, and warnings (30) and errors
_has_bars = True


class _BarFriendlyHandler(logging.Handler):
    """Console lines that do not break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def open_log(
    process: Process, warnings: Sequence[str] = (), *, quiet: bool = False, plain: bool = False
) -> logging.Logger:
    """A log on the console: of the main process; the others show only their errors.

    What is said is also remembered until `log_to_file`.

    Args:
        warnings: what the config's reading warned of, to be the log's first lines.
        quiet: only results, warnings and errors on the console, and no progress bars; the file gets all.
        plain: no progress bars, as where the output is no terminal.
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
        file = logging.FileHandler(path, encoding="utf-8")
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


class MetricsWriter:
    """One JSON line a record in metrics.jsonl, the same numbers in TensorBoard and Weights & Biases where asked for.

    Only the main process writes.
    """

    def __init__(self, run_dir: Path, process: Process, cfg, from_step: int, in_epoch: bool = False):
        """Records past `from_step` in an existing file are dropped: a resumed run writes them again.

        `in_epoch`: it goes on within an epoch, perhaps after its last step; a validation there is still to come.
        """
        self._file = self._board = self._wandb = None
        if not process.is_main:
            return
        self._path = run_dir / "metrics.jsonl"
        last = {"train": from_step, "val": from_step - in_epoch}
        lines = [json.dumps(r) + "\n" for r in self.records() if r["step"] <= last[r["kind"]]]
        write_text_atomic(self._path, "".join(lines))
        self._file = self._path.open("a", encoding="utf-8")
        if cfg.logging.tensorboard:
            # Imported here: it takes a second, and only the main process of a run that wants it pays.
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=from_step + 1)
        if cfg.logging.wandb_project:
            import wandb

            # A resumed run goes on in its own curves.
            name = content_hash(str(run_dir.resolve()))[:16]
            self._wandb = wandb.init(
                project=cfg.logging.wandb_project,
                dir=run_dir,
                id=name,
                name=run_dir.name,
                resume="allow",
                config=cfg.model_dump(),
            )

    def records(self) -> list[dict[str, Any]]:
        """All records of the run so far; on the main process."""
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("}\n")]  # a kill may have torn the last one

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Record `values` of optimiser step `step`. `kind` is `train` or `val`."""
        if self._file is None:
            return
        self._file.write(json.dumps({"kind": kind, "step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._file.flush()
        numbers = {f"{kind}/{name}": value for name, value in values.items() if isinstance(value, (int, float))}
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()
