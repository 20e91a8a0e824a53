"""Checkpoints: one file with everything needed to resume a run, written atomically, with a hash of its content.

Layout (the first three as in checkpoints of the published code):
    epoch                 last finished epoch, 0-based; -1 before the first
    model_state_dict      visual.*, fusion_model.*, logit_scale; with solver.ema or average_epochs the average
    base                  only with solver.save=trained, where model_state_dict has no frozen weights: {hash, arch,
                          weights}, their SHA-256 and source
    training_state_dict   only with solver.distill: parameters that are needed for training only
    trained_weights       only with an average: the weights in training, from which a resumed run continues
    averaged_epochs       only with an average: the number of averaged epochs, 0 with solver.ema
    optimizer_state_dict  state dict of the PyTorch optimiser
    scaler_state_dict     loss scaling of fp16; {} for other precisions
    progress              {consumed_clips, step, best_top1, skipped_clips, best_watched, stale_validations}: clips of
                          epoch + 1 already trained on, over all processes; of them, those that were unreadable and
                          replaced; solver.patience's best score, and the number of validations since
    class_names           names of the training classes, in order
    config                the resolved config, as YAML text
    content_hash          SHA-256 of all of the above
There is no random state: every generator is seeded by run seed, epoch and position (`datasets`, `modules.training`).
"""

import argparse
import errno
import os
import pathlib
import pickle
import re
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from utils.archives import check_archive_sizes, repeats_stored_values
from utils.errors import UserError, first_line
from utils.files import atomic_path, check_is_file
from utils.hashing import content_hash

FULL_BELOW = 1 << 20  # bytes: if less is free after a failed write, the disk was full


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write `state` and its content hash to `path`, atomically. Raises an OSError if the disk is full or not writable;
    an older file at `path` is untouched."""
    state = {name: value for name, value in state.items() if name != "content_hash"}
    state["content_hash"] = content_hash(state)
    with atomic_path(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # PyTorch's error for a failed write of the zip archive
            if shutil.disk_usage(temporary.parent).free < FULL_BELOW:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise OSError(f"{path}: could not be written: {error}") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint of this project or of another program on the CPU.

    The weights come under `model_state_dict`, by names without the prefixes of wrappers. Only tensors, plain values and
    the types in `_safe_types` are read (`weights_only`). Tensors of an uncompressed file are mapped, and copied when
    written to, so that the processes of a machine share their memory; copy those that outlive the start of a run. A
    `content_hash` is checked if there is one. Raises a UserError if the file is missing, damaged, altered, unpacks to
    more than it holds, or holds another type.
    """
    path = Path(path)
    check_is_file(path, "checkpoint file")
    can_be_mapped = check_archive_sizes(path)
    try:
        with torch.serialization.safe_globals(_safe_types()):
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=can_be_mapped)
    except pickle.UnpicklingError as error:
        class_name = re.search(r"(?:GLOBAL|Unsupported class|type) ([\w.]+\.\w+)", str(error))
        if class_name is None:
            raise UserError(f"{path}: corrupted, or not a checkpoint; use another copy") from error
        raise UserError(
            f"{path}: contains {class_name[1]} besides tensors and plain values, which is not loaded because it could "
            "run code; in the program that wrote it, save only the weights: torch.save(model.state_dict(), ...)"
        ) from error
    except PermissionError:
        raise  # intact, but closed to this user
    except Exception as error:  # the unpickler raises anything on arbitrary bytes
        if "TorchScript" in str(error):
            raise UserError(
                f"{path}: a TorchScript archive, not a checkpoint; give CLIP's weights as network.weights"
            ) from error
        raise UserError(f"{path}: corrupted or truncated checkpoint; use another copy ({first_line(error)})") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: contains a {type(state).__name__}, expected a dictionary")
    for tensor in tree_leaves(state):
        if isinstance(tensor, torch.Tensor) and repeats_stored_values(tensor):
            shape = tuple(tensor.shape)
            raise UserError(f"{path}: a tensor of shape {shape} is larger than the file's data; use another copy")
    expected = state.pop("content_hash", None)
    if expected is not None and content_hash(state) != expected:
        raise UserError(f"{path}: was modified after it was written (its content hash differs); use another copy")
    return state if expected is not None else _in_our_layout(state)


def _safe_types() -> list[Any]:
    """Types that other programs save with weights (scores, arguments), and that are safe to unpickle."""
    scalars = [type(np.dtype(kind)) for kind in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")]
    makers: list[Any] = [np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]]
    # Older versions of NumPy have the same functions in numpy.core, and files refer to them by that name.
    places = [(maker, f"numpy.{core}.multiarray.{maker.__name__}") for maker in makers for core in ("core", "_core")]
    tree = (OrderedDict, "yacs.config.CfgNode")  # a dictionary: the config in checkpoints of X-CLIP and others
    return [argparse.Namespace, pathlib.PosixPath, tree, np.dtype, np.ndarray, *places, *scalars]


def _in_our_layout(state: dict[str, Any]) -> dict[str, Any]:
    """Move the weights of another program's checkpoint to `model_state_dict`, and strip name prefixes.

    Prefixes: `module.` (DistributedDataParallel), `_orig_mod.` (torch.compile), `model.` (Lightning modules).
    """
    state = dict(state)
    for name in ("state_dict", "model", "module"):  # Lightning and timm, DeiT and others, DeepSpeed
        if "model_state_dict" not in state and isinstance(state.get(name), dict):
            state["model_state_dict"] = state.pop(name)
    if "model_state_dict" not in state and state and all(torch.is_tensor(value) for value in state.values()):
        state = {"model_state_dict": state}
    for name in ("model_state_dict", "fusion_model_state_dict"):
        if isinstance(state.get(name), dict):
            named = {str(key).replace("_orig_mod.", ""): value for key, value in state[name].items()}
            state[name] = {re.sub(r"^(?:(?:module|model)\.)+", "", key): value for key, value in named.items()}
    return state
