"""Manages the checkpoints of a run folder: the last ones and the best one."""

import contextlib
import errno
import logging
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.files import sync_path
from utils.interval import parse_interval

LAST = "last_model.pt"
_OLDER = re.compile(r"last_model\.(\d+)\.pt")  # see `older_name`
BEST = "best_model.pt"
log = logging.getLogger(__name__)


def older_name(age: int) -> str:
    """File name of an older checkpoint: last_model.1.pt is the one before last_model.pt, then last_model.2.pt ..."""
    return f"last_model.{age}.pt"


def older_checkpoints(run_dir: Path) -> list[Path]:
    """The checkpoints before last_model.pt, newest first. Copies with other names, such as last_model.1.old.pt, are
    left out."""
    ages = {path: int(match[1]) for path in run_dir.glob("*") if (match := _OLDER.fullmatch(path.name))}
    return sorted(ages, key=ages.__getitem__)


class CheckpointKeeper:
    """Writes checkpoints and keeps the last `num_kept` and the best, and saves within an epoch (`parse_interval`).
    Training continues if the disk is full."""

    failure: OSError | None = None  # of the last save

    def __init__(self, run_dir: Path, num_kept: int, save_every: int | str | None, resumed_from: Path | None = None):
        self._run_dir, self._num_kept = run_dir, num_kept
        self._steps, self._seconds = parse_interval(save_every)
        self._saved_at = time.monotonic()
        # If an older checkpoint was resumed, the newer ones are corrupted and must not be used again.
        self._may_age = resumed_from is None or resumed_from not in older_checkpoints(run_dir)
        for cut in run_dir.glob(".*_model.pt*.tmp"):  # of a run that was killed while saving
            cut.unlink(missing_ok=True)

    def is_due(self, step: int) -> bool:
        """Whether a save within the epoch is due after optimiser step `step`."""
        if self._steps is not None:
            return step % self._steps == 0
        return self._seconds is not None and time.monotonic() - self._saved_at >= self._seconds

    def save(self, state: dict[str, Any], is_best: bool = False) -> None:
        """Write last_model.pt (and best_model.pt, the same file under a second name).

        At any time the newest intact checkpoint exists, and best_model.pt matches `best_top1` of last_model.pt. If a
        write fails, a warning is logged, older checkpoints are untouched, and the next save tries again.
        """
        self._saved_at = time.monotonic()
        self.failure = None
        new = self._run_dir / f".{LAST}.new.tmp"
        try:
            save_checkpoint(new, state)
            if is_best:
                _link(new, self._run_dir / BEST)
            if self._may_age:
                self._age()
            new.replace(self._run_dir / LAST)
            sync_path(self._run_dir)
            self._may_age = True
        except OSError as error:
            self.failure = error.with_traceback(None)  # a traceback would keep the state in memory
            with contextlib.suppress(OSError):  # on the same disk
                new.unlink(missing_ok=True)
            log.warning(
                f"WARNING: no checkpoint written in {self._run_dir} ({error.strerror or error}); older ones are "
                "intact, and the next save tries again"
            )

    def _age(self) -> None:
        """Link last_model.pt to last_model.1.pt, renumber older checkpoints and remove the oldest."""
        if self._num_kept == 1 or not (self._run_dir / LAST).exists():
            return
        for age in range(self._num_kept - 2, 0, -1):
            if (self._run_dir / older_name(age)).exists():
                (self._run_dir / older_name(age)).replace(self._run_dir / older_name(age + 1))
        _link(self._run_dir / LAST, self._run_dir / older_name(1))


def _link(source: Path, target: Path) -> None:
    """Hard-link `source` to another name, replacing an existing file; copy it if the file system has no hard links."""
    temporary = target.with_name(f".{target.name}.link.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        shutil.copyfile(source, temporary)
    temporary.replace(target)


def newest_intact(run_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """The path and contents of the newest intact checkpoint of a run folder; None if the folder has no checkpoints.
    Raises a UserError if there are checkpoints, but none can be loaded."""
    faults = []
    for path in (run_dir / LAST, *older_checkpoints(run_dir)):
        if not path.exists():
            continue
        try:
            return path, load_checkpoint(path)
        except UserError as error:
            faults.append(str(error))
            log.warning("WARNING: %s; trying the previous one", error)
    if faults:
        raise UserError(f"{run_dir}: none of its {len(faults)} checkpoints could be loaded; first error: {faults[0]}")
    return None
