"""The trainer that a config asks for."""

import importlib.util
import os
import shutil
from functools import partial

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from modules.losses.loss import Loss
from modules.training import Schedule, Trainer
from modules.video_clip import VideoCLIP
from modules.weight_average import WeightAverage
from utils.context import RunContext
from utils.distributed import Process
from utils.errors import UserError
from utils.optim import ParameterGroup, build_optimizer, split_parameters
from utils.schedule import milestones_of
from utils.schema import Config


def parameter_groups(cfg: Config, model: VideoCLIP) -> list[ParameterGroup]:
    return split_parameters(model, model.is_pretrained, cfg.solver.clip_ratio)


def build_trainer(cfg: Config, model: VideoCLIP, text: torch.Tensor | None, context: RunContext) -> Trainer:
    """A trainer of `model` (on its device).

    Args:
        text: frozen class embeddings (K,D); None: the model makes its own, and they train.

    Raises:
        UserError: frame embeddings are to be kept of an image tower that trains, or there is no compiler.
    """
    process, solver = context.process, cfg.solver
    if cfg.data.cached_draws and model.tower_trains:
        raise UserError(
            "data.cached_draws: parameters that were added to the image tower train, so its frame embeddings change; "
            "set it to 0"
        )
    text = text if text is None else text.to(context.device)
    if solver.compile:
        compile_model(model, context.device)
    optimizer = build_optimizer(
        parameter_groups(cfg, model), solver.optim, solver.lr, solver.weight_decay, solver.momentum
    )
    return Trainer(
        model=_distribute(model, process, solver.grad_accumulation_steps),
        objective=partial(Loss.named(solver.loss_type)(cfg, process.world_size), text=text),
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(context.device.type, enabled=context.precision == "fp16"),
        schedule=Schedule(
            lr=solver.lr,
            kind=solver.type,
            epochs=solver.epochs,
            warmup_epochs=solver.lr_warmup_step,
            milestones=milestones_of(solver.lr_decay_step, solver.epochs) if solver.type == "multistep" else [],
        ),
        context=context,
        seed=cfg.seed,
        global_batch=cfg.data.batch_size * process.world_size,
        accumulation=solver.grad_accumulation_steps,
        clip_grad_norm=solver.clip_grad_norm,
        max_nonfinite_steps=solver.max_nonfinite_steps,
        max_skipped_share=cfg.data.max_skipped_share if cfg.data.on_error == "skip" else 1.0,
        average=None if solver.ema is None else WeightAverage(model, solver.ema),
    )


def _distribute(model: VideoCLIP, process: Process, accumulation: int) -> nn.Module:
    if process.world_size == 1:
        return model
    # Gradients live in the buckets that are sent: no second copy of them. Every step uses the same parameters in the
    # same order, so DDP may plan its messages once; not where batches are summed, because its plan is made in the first
    # backward pass and that one must then be sent.
    return DistributedDataParallel(
        model,
        device_ids=[process.device] if process.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        static_graph=accumulation == 1,
    )


def compile_model(model: VideoCLIP, device: torch.device) -> None:
    """Have image tower and head compiled by torch.compile when they first run; parameters keep their names.

    Raises:
        UserError: there is no compiler for this device.
    """
    if device.type == "cpu" and not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        raise UserError("solver.compile: a CPU needs a C++ compiler; install g++ or set solver.compile=false")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UserError("solver.compile: a GPU needs Triton; pip install triton or set solver.compile=false")
    model.visual.compile()
    model.fusion_model.compile()
