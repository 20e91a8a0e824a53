"""What a run saves and goes on from."""

import logging
from pathlib import Path
from typing import Any

from modules.checkpoint_layout import load_video_weights
from modules.training import Progress, Trainer
from modules.video_clip import VideoCLIP
from utils.checkpoint import load_checkpoint
from utils.distributed import is_restart
from utils.errors import UserError
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
    path: Path, state: dict[str, Any], model: VideoCLIP, trainer: Trainer, steps_per_epoch: int
) -> Progress:
    """Load a checkpoint's `state`, read from `path`, into model and trainer; returns where the run stands.

    A published checkpoint brings weights and epoch; its optimiser has other groups and is left out, loudly.

    Raises:
        UserError: it does not fit the model or the optimiser.
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
    try:
        trainer.optimizer.load_state_dict(state["optimizer_state_dict"])
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: its optimiser does not fit this config ({error}); use it as `pretrain`") from error
    # Where an average was kept, it is the model of the checkpoint; the training goes on from its own weights.
    model.load_state_dict(state.get("trained_weights", {}), strict=False)
    trainer.scaler.load_state_dict(state["scaler_state_dict"])
    saved = state["progress"]
    for name in ("consumed_clips", "step", "best_top1", "skipped_clips"):
        setattr(progress, name, saved[name])
    return progress
