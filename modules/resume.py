"""What a run saves and goes on from."""

import logging
from pathlib import Path
from typing import Any

import torch

from modules.checkpoint_layout import load_video_weights
from modules.training import Progress, Trainer
from modules.video_clip import VideoCLIP
from utils.checkpoint import load_checkpoint
from utils.distributed import Process, gather_to_main, is_restart, share_from_main
from utils.errors import UserError
from utils.hashing import content_hash
from utils.keeper import newest_good

log = logging.getLogger(__name__)


def run_state(
    model: VideoCLIP, trainer: Trainer, progress: Progress, class_names: list[str], config_text: str
) -> dict[str, Any]:
    """All that a run needs to go on, in the layout of `utils.checkpoint`; within `trainer.kept_weights()`."""
    return {
        "epoch": progress.epoch - 1,  # the last finished one, as published checkpoints count
        "model_state_dict": model.state_dict(),
        **({} if trainer.average is None else {"trained_weights": trainer.average.trained_weights()}),
        "optimizer_state_dict": trainer.optimizer.state_dict(),
        "scaler_state_dict": trainer.scaler.state_dict(),
        "progress": {
            "consumed_clips": progress.consumed_clips,
            "step": progress.step,
            "best_top1": progress.best_top1,
            "skipped_clips": progress.skipped_clips,
        },
        "class_names": class_names,
        "config": config_text,
    }


def find_checkpoint(resume: str | None, run_dir: Path) -> tuple[Path, dict[str, Any]] | None:
    """What `resume` asks for: the file named, or under `auto` the newest good one of the run folder, if there is one.

    Processes that were started anew after a failure go on from the newest good one, whatever `resume` says.

    Raises:
        UserError: the file named is not whole; under `auto`, the folder's checkpoints are all damaged.
    """
    if is_restart() and (found := newest_good(run_dir)) is not None:
        return found
    if resume is None:
        return None
    return newest_good(run_dir) if resume == "auto" else (Path(resume), load_checkpoint(resume))


def restore_run(
    path: Path, state: dict[str, Any], model: VideoCLIP, trainer: Trainer, steps_per_epoch: int, num_clips: int
) -> Progress:
    """Load a checkpoint's `state`, read from `path`, into model and trainer; returns where the run stands.

    A published checkpoint brings weights and epoch; its optimiser has other groups and is left out, loudly.

    Args:
        num_clips: of an epoch.

    Raises:
        UserError: it does not fit the model, the optimiser or the list.
    """
    load_video_weights(model, state, str(path))
    if trainer.average is not None:
        trainer.average.restart()
    if not isinstance(state.get("epoch"), int):
        raise UserError(f"{path}: holds no epoch to go on from; use it as `pretrain` for its weights alone")
    progress = Progress(epoch=state["epoch"] + 1)
    if "progress" not in state:
        progress.step = progress.epoch * steps_per_epoch
        log.warning("%s was not written by this project: weights and epoch are taken, the optimiser starts anew", path)
        return progress
    _restore_optimizer(path, state, trainer.optimizer)
    # Where an average was kept, it is the model of the checkpoint; the training goes on from its own weights.
    model.load_state_dict(state.get("trained_weights", {}), strict=False)
    trainer.scaler.load_state_dict(state["scaler_state_dict"])
    saved = state["progress"]
    for name in ("consumed_clips", "step", "best_top1", "skipped_clips"):
        if name not in saved:
            raise UserError(f"{path}: its progress lacks {name}; use it as `pretrain` for its weights alone")
        setattr(progress, name, saved[name])
    if progress.consumed_clips > num_clips:
        raise UserError(
            f"{path}: was saved after {progress.consumed_clips} clips of an epoch, and data.train_list now has "
            f"{num_clips}; give the list of that run, or use the checkpoint as `pretrain`"
        )
    return progress


def _restore_optimizer(path: Path, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Load the optimiser's running averages and rate; what else the config says of it (weight decay ...) stays."""
    settings = [{name: value for name, value in g.items() if name != "params"} for g in optimizer.param_groups]
    try:
        saved = state["optimizer_state_dict"]
        strange = set(settings[0]) ^ (set(saved["param_groups"][0]) - {"params"})
        if strange:
            raise ValueError(f"another solver.optim: {', '.join(sorted(strange))}")
        optimizer.load_state_dict(saved)
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path}: its optimiser does not fit this config ({error}); use it as `pretrain`") from error
    for group, own in zip(optimizer.param_groups, settings):
        group.update({name: value for name, value in own.items() if name != "lr"})  # each step sets that anew


def check_same_checkpoint(found: tuple[Path, dict[str, Any]] | None, process: Process) -> None:
    """All processes must go on from the same weights.

    Raises:
        UserError: on all of them, where machines have run folders of their own and found different checkpoints.
    """
    if process.world_size == 1:
        return
    mine = None if found is None else (str(found[0]), content_hash(found[1]["model_state_dict"]))
    all_found = share_from_main(gather_to_main(mine, process), process)
    different = [
        rank for rank, other in enumerate(all_found) if (other and other[1]) != (all_found[0] and all_found[0][1])
    ]
    if different:
        names = [f"process {rank}: {all_found[rank][0] if all_found[rank] else 'none'}" for rank in (0, different[0])]
        raise UserError(
            f"the processes would go on from different checkpoints ({', '.join(names)}); put logging.run_dir where "
            "all machines see it, or copy the folder to each"
        )
