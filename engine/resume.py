"""Saving and resuming a run."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from engine.keeper import newest_intact
from modules.checkpoint_layout import load_video_weights, saved_class_names, saved_config, split_training_parts
from modules.sharding import gathered
from modules.trained_part import trained_state
from modules.training import Progress, Trainer
from modules.video_clip import VideoCLIP
from utils.checkpoint import load_checkpoint
from utils.config import dump_config
from utils.distributed import Process, gather_to_all, is_restart
from utils.errors import UserError, first_line
from utils.hashing import content_hash
from utils.loaders import TrainLoader
from utils.recipe import changed_keys
from utils.records import Count
from utils.schema import Config

# Keys that must not change in a run: clips, their order, and class embeddings. Learning rates, lengths, batch sizes and
# processes may change, and so may paths (files move) and lists (unreadable clips are removed).
RUN_KEYS = (
    "seed", "data.shot", "data.shot_seed", "data.sampling", "data.label_space", "network.classifier", "network.scorer",
    "network.prompt", "solver.loss_type",
)  # fmt: skip
PER_VALUE = ("exp_avg", "exp_avg_sq", "momentum_buffer")  # moving averages with the shape of the parameter
ONLY_WEIGHTS = "use it as `pretrain` to load only its weights"
OR_ANOTHER_RUN = "to resume it, or set another logging.run_dir for a new run"
log = logging.getLogger(__name__)


Base = dict[str, str] | None
Found = tuple[Path, dict[str, Any]]
"""Path and contents of a checkpoint."""


def run_state(
    model: VideoCLIP, trainer: Trainer, progress: Progress, class_names: list[str], config_text: str, base: Base = None
) -> dict[str, Any]:
    """The state needed to resume a run, in the layout of `utils.checkpoint`; called within `trainer.kept_weights()`.

    Called by all processes, because sharded weights are gathered; only that of the main process is complete.

    Args:
        base: from `modules.trained_part.base_of`, to save only trained parameters. None: save the whole model.
    """
    of_model, of_training = split_training_parts(model.state_dict() if base is None else trained_state(model))
    state = {
        "epoch": progress.epoch - 1,  # the last finished epoch, as in published checkpoints
        "model_state_dict": of_model,
        "optimizer_state_dict": trainer.optimizer.state_dict(),
        "scaler_state_dict": trainer.scaler.state_dict(),
        "progress": {name: value for name, value in asdict(progress).items() if name != "epoch"},
        "class_names": class_names,
        "config": config_text,
    }
    if base is not None:
        state["base"] = base
    if of_training:
        state["training_state_dict"] = of_training
    if trainer.average is not None:
        state |= {"trained_weights": trainer.average.trained_weights(), "averaged_epochs": trainer.average.num_epochs}
    return gathered(state, keep=trainer.context.process.is_main)


def find_checkpoint(resume: str | None, run_dir: Path) -> Found | None:
    """Path and contents of the checkpoint `resume`; with `auto` the newest intact one of the run folder, if any.

    Processes that were restarted after a failure always resume from the newest intact one.

    Raises:
        UserError: the file is corrupted; with `auto`, all checkpoints of the folder are.
    """
    if is_restart() and (found := newest_intact(run_dir)) is not None:
        return found
    if resume is None:
        return None
    return newest_intact(run_dir) if resume == "auto" else (Path(resume), load_checkpoint(resume))


class SavedProgress(BaseModel):
    """`progress` of a checkpoint; the last three are missing in older ones."""

    model_config = ConfigDict(strict=True)
    consumed_clips: Count
    step: Count
    best_top1: FiniteFloat
    skipped_clips: Count
    best_watched: FiniteFloat = Progress.best_watched
    stale_validations: Count = Progress.stale_validations
    validations: Count = Progress.validations


class SavedRun(BaseModel):
    """The parts of a checkpoint that are neither weights nor for the optimiser. `progress` is None in checkpoints of
    other programs."""

    model_config = ConfigDict(strict=True)
    epoch: int = Field(ge=-1, lt=2**31)
    progress: SavedProgress | None = None
    averaged_epochs: Count = 0
    scaler_state_dict: dict[str, Any] = {}


def read_progress(path: Path, state: dict[str, Any]) -> SavedRun:
    """Check those parts of a checkpoint. Numbers may be those of NumPy, or tensors. Raises a UserError."""
    if state.get("epoch") is None:
        raise UserError(f"{path}: contains no epoch to resume from; {ONLY_WEIGHTS}")
    parts = {name: state[name] for name in SavedRun.model_fields if name in state}
    if isinstance(parts.get("progress"), dict):
        parts["progress"] = {name: _plain(value) for name, value in parts["progress"].items()}
    elif "progress" in parts:
        raise UserError(
            f"{path}: its progress is a {type(parts['progress']).__name__}, not a dictionary; {ONLY_WEIGHTS}"
        )
    try:
        return SavedRun.model_validate({name: _plain(value) for name, value in parts.items()})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in fault["loc"])
        is_missing = fault["type"] == "missing"
        what = "is missing" if is_missing else f"{fault['msg']}, not {str(fault['input'])[:80]}"
        raise UserError(f"{path}: {key}: {what}; {ONLY_WEIGHTS}") from error


def _plain(value: Any) -> Any:
    """A number of PyTorch or NumPy as Python's; anything else as it is."""
    is_number = isinstance(value, np.generic) or (isinstance(value, torch.Tensor) and value.ndim == 0)
    return value.item() if is_number else value


def _load_weights(path: Path, state: dict[str, Any], name: str, model: VideoCLIP) -> None:
    """Load an optional part of a checkpoint. Raises a UserError if it is not one of this model."""
    try:
        model.load_state_dict(state.get(name, {}), strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: {name} does not fit this config ({first_line(error)}); {ONLY_WEIGHTS}") from error


def restore_run(
    found: Found, cfg: Config, class_names: list[str], model: VideoCLIP, trainer: Trainer, loader: TrainLoader
) -> Progress:
    """Load a checkpoint into model and trainer; returns the progress of the run.

    Of a published checkpoint, weights and epoch are loaded; its optimiser has other groups and is ignored, with a
    warning. With `cfg.solver.evaluate` differences between the configs are allowed, since nothing is trained. Raises a
    UserError if it belongs to another run, or does not fit the model, the optimiser or the list.
    """
    path, state = found
    saved = read_progress(path, state)
    state |= {"epoch": saved.epoch}
    if not cfg.solver.evaluate:
        _check_same_run(path, state, cfg, class_names)
    load_video_weights(model, state, str(path))
    _load_weights(path, state, "training_state_dict", model)
    if trainer.average is not None:
        trainer.average.restart()
    progress = Progress(epoch=saved.epoch + 1)
    if saved.progress is None:
        progress.step = progress.epoch * len(loader)
        log.warning(
            "%s was not written by this project: weights and epoch are loaded, the optimiser starts from scratch", path
        )
        return progress
    if not cfg.solver.evaluate:
        _restore_optimizer(path, state, trainer.optimizer, model)
    # With averaging, the model of a checkpoint is the average; training continues from the weights in training.
    _load_weights(path, state, "trained_weights", model)
    if trainer.average is not None:
        trainer.average.num_epochs = saved.averaged_epochs
    if saved.scaler_state_dict:  # empty unless the run used fp16
        try:
            trainer.scaler.load_state_dict(saved.scaler_state_dict)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: scaler_state_dict: {first_line(error)}; {ONLY_WEIGHTS}") from error
    progress = Progress(saved.epoch + 1, **saved.progress.model_dump())
    if not 0 <= progress.consumed_clips <= len(loader.dataset):
        raise UserError(
            f"{path}: was saved after {progress.consumed_clips} clips of an epoch, and data.train_list now has "
            f"{len(loader.dataset)}; use the list of that run, or use the checkpoint as `pretrain`"
        )
    return progress


def _check_same_run(path: Path, state: dict[str, Any], cfg: Config, class_names: list[str]) -> None:
    """Raise a UserError if `cfg` belongs to a different run than the checkpoint.

    If all epochs of the run are finished, warn about any difference, since its scores belong to the saved config.
    """
    changed = changed_keys(saved_config(state), yaml.safe_load(dump_config(cfg)))
    if not cfg.data.shot:
        changed.pop("data.shot_seed", None)
    for key in RUN_KEYS:
        if key in changed:
            old, new = changed[key]
            raise UserError(f"{path}: {key} was {old} in its run and is {new} now; set {key}={old} {OR_ANOTHER_RUN}")
    if "data.sets" in changed:
        _check_same_sets(path, *changed["data.sets"])
    trained = saved_class_names(state)
    if trained and trained != class_names:
        difference = _first_difference(trained, class_names)
        raise UserError(f"{path}: its run had {difference} now; set its data.label_list {OR_ANOTHER_RUN}")
    num_epochs = state["epoch"] + 1
    without_effect = ", ".join(key for key in changed if key.startswith(("data.", "network.", "solver.")))
    if num_epochs >= cfg.solver.epochs and without_effect:
        log.warning(
            f"WARNING: {path} has finished all {num_epochs} epochs: nothing is trained, and changing {without_effect} "
            "has no effect"
        )


def _check_same_sets(path: Path, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    """Raise a UserError if the shares of the sets in an epoch differ, which changes its clips; files may move."""
    was, now = _describe_shares(old), _describe_shares(new)
    if was != now:
        raise UserError(
            f"{path}: the weights of data.sets were {was} in its run and are {now} now; set the former ones "
            f"{OR_ANOTHER_RUN}"
        )


def _describe_shares(sets: list[dict[str, Any]]) -> str:
    return ", ".join(f"{each['name']} {each.get('weight') or 'by its videos'}" for each in sets) or "none"


def _first_difference(trained: list[str], class_names: list[str]) -> str:
    for number, (old, new) in enumerate(zip(trained, class_names)):
        if old != new:
            return f"{old!r} as class {number}, which is {new!r}"
    return f"{len(trained)} classes, which are {len(class_names)}"


def _restore_optimizer(path: Path, state: dict[str, Any], optimizer: torch.optim.Optimizer, model: VideoCLIP) -> None:
    """Load the moving averages and learning rates of the optimiser; other settings come from the config."""
    settings = [{name: value for name, value in g.items() if name != "params"} for g in optimizer.param_groups]
    try:
        saved = state["optimizer_state_dict"]
        differing = set(settings[0]) ^ (set(saved["param_groups"][0]) - {"params"})
        if differing:
            raise ValueError(f"another solver.optim: {', '.join(sorted(differing))}")
        optimizer.load_state_dict(saved)
        for values in optimizer.state.values():
            for name, value in values.items():
                if torch.is_tensor(value) and value.device.type == "cpu":
                    values[name] = value.clone()  # otherwise the file stays mapped, on the disk even if it is deleted
        _check_averages(optimizer, model)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path}: its optimiser does not fit this config ({first_line(error)}); {ONLY_WEIGHTS}"
        ) from error
    for group, own in zip(optimizer.param_groups, settings):
        group.update({name: value for name, value in own.items() if name != "lr"})  # set at each step


def _check_averages(optimizer: torch.optim.Optimizer, model: VideoCLIP) -> None:
    """Raise a ValueError if a moving average is missing that another parameter has, is not a tensor, or has another
    shape, which `load_state_dict` does not check."""
    all_kinds = {frozenset(averages) for averages in optimizer.state.values()}
    for name, parameter in model.named_parameters():
        averages = optimizer.state.get(parameter) or {}  # empty before its first gradient
        if averages and (larger := [kinds for kinds in all_kinds if averages.keys() < kinds]):
            raise ValueError(f"{', '.join(sorted(larger[0] - averages.keys()))} of {name} is missing")
        for kind, average in averages.items():
            if kind in PER_VALUE and not torch.is_tensor(average):
                raise ValueError(f"{kind} of {name} is a {type(average).__name__}, not a tensor")
            if kind in PER_VALUE and average.ndim and average.shape != parameter.shape:  # novograd has one per tensor
                was, now = " x ".join(map(str, average.shape)), " x ".join(map(str, parameter.shape))
                raise ValueError(f"{name} was {was} and is {now}: another data.input_size?")


def check_same_checkpoint(found: Found | None, process: Process) -> None:
    """Check that all processes resume from the same weights. Raises a UserError on all processes, if machines have
    separate run folders with different checkpoints."""
    if process.world_size == 1:
        return
    mine = None if found is None else (str(found[0]), content_hash(found[1]["model_state_dict"]))
    all_found = gather_to_all(mine, process)
    hashes = [found and found[1] for found in all_found]
    paths = [found[0] if found else "none" for found in all_found]
    for rank, content in enumerate(hashes):
        if content != hashes[0]:
            raise UserError(
                f"the processes would resume from different checkpoints (process 0: {paths[0]}, process {rank}: "
                f"{paths[rank]}); put logging.run_dir on a file system shared by all machines, or copy the folder to "
                "each"
            )
