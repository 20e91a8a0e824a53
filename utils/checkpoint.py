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
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from utils.archives import check_archive_sizes, repeats_stored_values
from utils.errors import UserError, first_line
from utils.files import atomic_path, check_is_file
from utils.hashing import content_hash
from utils.numpy_pickles import SAFE_NUMPY

CONTAINERS = ("model_state_dict", "state_dict", "model", "module")
"""Keys of the weights: ours and the published ones, Lightning and timm, DeiT and others, DeepSpeed."""
FRAME = "Unsupported operand 149"  # of PyTorch's unpickler; the opcode begins each pickle of protocol 4 and later
MAX_RANGE = 10_000_000  # above the steps of any training
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

    The weights come under `model_state_dict`, by names without the prefixes of wrappers (`weights_of`). Tensors are
    mapped as in `read_torch_file`. A `content_hash` is checked if there is one. Raises a UserError if the file is
    missing, damaged, altered, unpacks to more than it holds, or holds another type.
    """
    check_is_file(path, "checkpoint file")
    state = read_torch_file(path)
    for tensor in tree_leaves(state):
        if isinstance(tensor, torch.Tensor) and repeats_stored_values(tensor):
            shape = tuple(tensor.shape)
            raise UserError(f"{path}: a tensor of shape {shape} is larger than the file's data; use another copy")
    expected = state.pop("content_hash", None)
    if expected is None:
        weights = weights_of(state, path)
        others = {} if all(map(torch.is_tensor, state.values())) else state
        return {name: value for name, value in others.items() if name not in CONTAINERS} | {"model_state_dict": weights}
    if content_hash(state) != expected:
        raise UserError(f"{path}: was modified after it was written (its content hash differs); use another copy")
    return state


def read_torch_file(path: str | Path) -> dict[str, Any]:
    """The dictionary in a file of `torch.save`, on the CPU, without running code in it.

    Only tensors, plain values and the types in `_safe_types` are read (`weights_only`). Tensors of an uncompressed file
    are mapped, and copied when written to, so that the processes of a machine share their memory; copy those that
    outlive the start of a run. Raises a UserError as `load_checkpoint`.
    """
    can_be_mapped = check_archive_sizes(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_safe_types()):
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=can_be_mapped)
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from error
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
    return state


def _refusal(path: str | Path, reason: str) -> UserError:
    """The error for a file that PyTorch's safe unpickler refused for `reason`."""
    if FRAME in reason:
        return UserError(
            f"{path}: was saved with pickle protocol 4 or later, which is not read safely; save it again without "
            "pickle_protocol: torch.save(model.state_dict(), ...)"
        )
    found = re.search(r"GLOBAL (\w+(?:\.\w+)*) |(?:Unsupported class|type|got <class) '?([\w.]+\.\w+)", reason)
    if found is None:
        return UserError(f"{path}: corrupted, or not a checkpoint; use another copy")
    return UserError(
        f"{path}: contains {found[1] or found[2]} besides tensors and plain values, which is not loaded because it "
        "could run code; in the program that wrote it, save only the weights: torch.save(model.state_dict(), ...), or "
        "torch.save(checkpoint['state_dict'], ...)"
    )


def _safe_types() -> list[Any]:
    """Types that other programs save with weights (scores, arguments), and that are safe to unpickle."""
    tree = (OrderedDict, "yacs.config.CfgNode")  # a dictionary: the config in checkpoints of X-CLIP and others
    plain = [argparse.Namespace, pathlib.PosixPath, frozenset, tree, (_short_range, "builtins.range")]
    return [*plain, (_no_bytes, "builtins.bytes"), *SAFE_NUMPY]


def _short_range(*limits: int) -> range:
    """A range that is short enough for a malicious file to expand it."""
    values = range(*limits)
    if len(values) > MAX_RANGE:
        raise pickle.UnpicklingError(f"a range of {len(values)} values")
    return values


def _no_bytes() -> bytes:
    """Empty bytes, which are pickled as a call without arguments; with a number, `bytes` would allocate that many."""
    return b""


def weights_of(state: dict[str, Any], source: str | Path) -> dict[str, torch.Tensor]:
    """The weights in the content of a file: at its top level or in CONTAINERS, which may be nested. The prefixes of
    wrappers are removed from their names. Raises a UserError if there are no weights."""
    weights = _state_dict_in(state)
    if weights is None:
        raise UserError(
            f"{source}: no state dict, which has only names and tensors, at the top level or under "
            f"{', '.join(CONTAINERS)}; it contains {', '.join(map(str, list(state)[:6])) or 'nothing'}; save only the "
            "weights: torch.save(model.state_dict(), ...)"
        )
    return without_prefixes(weights)


def _state_dict_in(tree: dict[str, Any]) -> dict[str, torch.Tensor] | None:
    if tree and all(map(torch.is_tensor, tree.values())):
        return tree
    inner = (_state_dict_in(tree[name]) for name in CONTAINERS if isinstance(tree.get(name), dict))
    return next((found for found in inner if found is not None), None)


def without_prefixes(state: dict[str, Any]) -> dict[str, Any]:
    """A state dict by names without the prefixes `module.` (DistributedDataParallel), `_orig_mod.` (torch.compile) and
    `model.` (Lightning modules)."""
    named = {str(name).replace("_orig_mod.", ""): value for name, value in state.items()}
    return {re.sub(r"^(?:(?:module|model)\.)+", "", name): value for name, value in named.items()}
