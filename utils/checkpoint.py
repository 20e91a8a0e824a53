"""Checkpoints: one file with all that a run needs to go on, whole or absent, and recognised when altered.

Layout (the first three as the published system writes them):
    epoch                 last finished epoch, 0-based; -1 before the first
    model_state_dict      visual.*, fusion_model.*, logit_scale; with solver.ema their running average
    trained_weights       only with solver.ema: the weights that train, which a resumed run goes on from
    optimizer_state_dict  torch's own
    scaler_state_dict     loss scaling of fp16; {} elsewhere
    progress              {consumed_clips, step, best_top1, skipped_clips}: clips of epoch + 1 already trained on,
                          over all processes; of them, those that were unreadable and replaced
    class_names           of the training, in order
    config                the resolved config, as YAML text
    content_hash          SHA-256 of all of the above
Random numbers need no state: every stream is seeded by run seed, epoch and position (`datasets`, `modules.training`).
"""

import errno
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError
from utils.files import atomic_path, check_is_file
from utils.hashing import content_hash

ROOM = 1 << 20  # bytes: with less left after a failed write, the disk was full


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write `state` and its content hash to `path`, atomically.

    Raises:
        OSError: the disk is full or not writable; an older file at `path` is untouched.
    """
    state = {name: value for name, value in state.items() if name != "content_hash"}
    state["content_hash"] = content_hash(state)
    with atomic_path(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch reports a failed write of its zip archive so
            if shutil.disk_usage(temporary.parent).free < ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise OSError(f"{path}: could not be written: {error}") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU: ours, or one of the published layouts.

    Only tensors and plain values are read (`weights_only`). A `content_hash`, where there is one, is checked.

    Raises:
        UserError: the file is missing, torn, altered, or holds anything but tensors and plain values.
    """
    path = Path(path)
    check_is_file(path, "checkpoint file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: is torn, or holds more than tensors and plain values, which is never loaded; "
            f"use another copy{_named_global(error)}"
        ) from error
    except Exception as error:  # of any kind: the unpickler trips over arbitrary bytes wherever they lead it
        raise UserError(f"{path}: is no whole checkpoint; use another copy ({_first_line(error)})") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds a {type(state).__name__}, not a checkpoint's dictionary")
    expected = state.pop("content_hash", None)
    if expected is not None and content_hash(state) != expected:
        raise UserError(f"{path}: was altered after it was written (its content hash differs); use another copy")
    return state


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].split(". ")[0][:200] if text else type(error).__name__


def _named_global(error: Exception) -> str:
    """What the file would have called; PyTorch's own text advises to run it."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f" (it names {found[1]})" if found else ""
