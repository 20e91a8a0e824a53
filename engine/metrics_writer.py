"""Writes the metrics of a run to metrics.jsonl, and optionally to TensorBoard and Weights & Biases."""

import errno
import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine.keeper import LAST
from modules.training import Progress
from utils.distributed import Process
from utils.files import write_text_atomic
from utils.hashing import content_hash
from utils.records import read_records
from utils.runlog import LogFile
from utils.schema import Config

log = logging.getLogger(__name__)


def _drop_full_disk(args: threading.ExceptHookArgs) -> None:
    """Suppress the traceback of TensorBoard's thread; its next call raises the error, which is reported there."""
    is_board = type(args.thread).__module__.startswith("tensorboard.")
    if not (is_board and isinstance(args.exc_value, OSError)):
        threading.__excepthook__(args)


class MetricsWriter:
    """Writes each record as a JSON line to metrics.jsonl, and optionally to TensorBoard and Weights & Biases.

    Only the main process writes.
    """

    def __init__(self, run_dir: Path, process: Process, cfg: Config, progress: Progress):
        """Open the files. Records after `progress` in an existing file are dropped, since a resumed run writes them
        again."""
        self._file = self._board = self._wandb = None
        if not process.is_main:
            return
        self._path = run_dir / "metrics.jsonl"
        self._unwritten: list[str] = []
        from_step = progress.step
        # Within an epoch, the checkpoint may be of its last step, before the validation.
        last = {"train": from_step, "val": from_step - (progress.consumed_clips > 0)}
        had_file = self._path.exists() or (run_dir / LAST).exists()
        records = [r for r in self.records() if r["step"] <= last[r["kind"]]]
        steps = {r["step"] for r in records if r["kind"] == "train"} - {0}
        num_missing = from_step - len(steps)
        if num_missing and had_file:  # a run that resumes a checkpoint of another folder starts a new file
            first = next(step for step in itertools.count(1) if step not in steps)
            log.warning(
                f"WARNING: {self._path} lacks {num_missing} of the {from_step} steps up to the checkpoint, starting "
                f"with step {first}: they were lost, for example in a power failure; the weights are not affected"
            )
        num_missing = progress.validations - sum(r["kind"] == "val" for r in records)
        if num_missing > 0 and had_file:
            log.warning(
                f"WARNING: {self._path} lacks {num_missing} of the {progress.validations} validations up to the "
                "checkpoint: their scores were lost"
            )
        write_text_atomic(self._path, "".join(json.dumps(r) + "\n" for r in records))
        self._file = self._path.open("ab", buffering=0)
        if cfg.logging.tensorboard:
            # Imported here because it takes a second, and is used in the main process only.
            from torch.utils.tensorboard import SummaryWriter

            threading.excepthook = _drop_full_disk
            self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=from_step + 1)
        if cfg.logging.wandb_project:
            import wandb

            # A resumed run continues its curves.
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
        """All records of the run so far (main process only)."""
        return read_records(self._path, "move it away to continue")

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Write the record of optimiser step `step`. `kind` is `train` or `val`."""
        if self._file is None:
            return
        record = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        self._unwritten.append(json.dumps(record) + "\n")
        self._write_lines()
        numbers = {f"{kind}/{name}": value for name, value in values.items() if isinstance(value, (int, float))}
        if self._board is not None:
            with self._tensorboard_errors():
                for name, value in numbers.items():
                    self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)

    @contextmanager
    def _tensorboard_errors(self) -> Iterator[None]:
        """On a full disk, warn and continue without TensorBoard."""
        try:
            yield
        except OSError as error:
            log.warning("WARNING: TensorBoard logging stopped (%s)", error.strerror)
            self._board = None

    def _write_lines(self) -> None:
        """Write pending lines; on a full disk they are kept for later, with one warning."""
        assert self._file is not None
        # Unbuffered, so that a failed write is detected; incomplete lines are removed.
        end, left = self._file.seek(0, os.SEEK_END), "".join(self._unwritten).encode()
        try:
            while left:
                num_written = self._file.write(left)
                if not num_written:  # the disk is full, but no error was raised
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                left = left[num_written:]
            self._unwritten.clear()
        except OSError as error:
            with suppress(OSError):  # the same disk
                os.truncate(self._file.fileno(), end)  # repeats interrupted calls, unlike self._file.truncate
            if len(self._unwritten) == 1:
                log.warning(f"WARNING: {self._path} cannot be written ({error.strerror}); its lines are written later")

    def sync(self) -> None:
        """Flush metrics.jsonl and log.txt to disk, before saving a checkpoint that refers to them."""
        if self._file is None:
            return
        self._write_lines()
        logs = [handler.stream for handler in logging.getLogger().handlers if isinstance(handler, LogFile)]
        for file in filter(None, (self._file, *logs)):
            try:
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                log.warning("WARNING: %s may lose lines in a power failure (%s)", file.name, error.strerror)

    def close(self) -> None:
        if self._file is not None:
            self._write_lines()
            self._file.close()
        if self._board is not None:
            with self._tensorboard_errors():
                self._board.close()
        if self._wandb is not None:
            self._wandb.finish()
