"""The trainer that a config asks for."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from modules.losses import weighted_cross_entropy
from modules.training import Schedule, Trainer
from modules.video_clip import VideoCLIP
from utils.distributed import Process
from utils.optim import ParameterGroup, build_optimizer, split_parameters
from utils.schedule import milestones_of


def parameter_groups(cfg, model: VideoCLIP) -> list[ParameterGroup]:
    return split_parameters(model, model.is_pretrained, cfg.solver.clip_ratio)


def build_trainer(
    cfg, model: VideoCLIP, text: torch.Tensor, process: Process, precision: str, stop_requested: Callable[[], bool]
) -> Trainer:
    """A trainer of `model` (on its device) against the class embeddings `text` (K,D)."""
    solver = cfg.solver
    optimizer = build_optimizer(
        parameter_groups(cfg, model), solver.optim, solver.lr, solver.weight_decay, solver.momentum
    )
    return Trainer(
        model=_distribute(model, process),
        objective=_cross_entropy(text.to(process.device), process.world_size),
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(process.device.type, enabled=precision == "fp16"),
        schedule=Schedule(
            lr=solver.lr,
            kind=solver.type,
            epochs=solver.epochs,
            warmup_epochs=solver.lr_warmup_step,
            milestones=milestones_of(solver.lr_decay_step, solver.epochs) if solver.type == "multistep" else [],
        ),
        process=process,
        precision=precision,
        seed=cfg.seed,
        global_batch=cfg.data.batch_size * process.world_size,
        accumulation=solver.grad_accumulation_steps,
        clip_grad_norm=solver.clip_grad_norm,
        stop_requested=stop_requested,
    )


def _distribute(model: VideoCLIP, process: Process) -> nn.Module:
    if process.world_size == 1:
        return model
    # Gradients live in the buckets that are sent: no second copy of them.
    return DistributedDataParallel(
        model, device_ids=[process.device] if process.device.type == "cuda" else None, gradient_as_bucket_view=True
    )


def _cross_entropy(text: torch.Tensor, world_size: int):
    """The sum over all processes' clips, as a mean over processes (`modules.training.Objective`)."""

    def objective(model: nn.Module, batch: dict) -> torch.Tensor:
        logits = model(batch["frames"], text)
        return weighted_cross_entropy(logits, batch["label"], batch["weight"]) * world_size

    return objective
