"""Builds the trainer of a config."""

import importlib.util
import os
import shutil
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from modules.distillation import Distilled
from modules.interpolation import Interpolation, clip_weights
from modules.learning_rates import rates_of
from modules.losses.loss import Loss
from modules.mixing import Mixing
from modules.optim import ParameterGroup, build_optimizer, split_parameters
from modules.sharding import accept_full_state, check_can_shard, shard
from modules.tower_blocks import VITS, ImageTower
from modules.training import Trainer
from modules.video_clip import VideoCLIP
from modules.weight_average import EpochMean, WeightAverage
from utils.context import RunContext
from utils.errors import UserError
from utils.schema import Config


def parameter_groups(cfg: Config, model: VideoCLIP) -> list[ParameterGroup]:
    """The parameter groups of `cfg.solver`, with each parameter in exactly one. Raises a UserError if not possible."""
    return split_parameters(model, rates_of(cfg, model), cfg.solver.decay_1d)


def build_trainer(
    cfg: Config,
    model: VideoCLIP,
    text: torch.Tensor | None,
    context: RunContext,
    clip: dict[str, torch.Tensor] | None = None,
    class_weights: np.ndarray | None = None,
) -> Trainer:
    """A trainer of `model` (with its distillation attached if `solver.distill` is set), which it moves to its device.

    Args:
        text: frozen class embeddings (K,D); None: they are trained in the model.
        clip: CLIP's own weights, for `solver.interpolated_loss`; None: the current weights of the model.
        class_weights: float32 (K,), from `solver.class_weights`; None: all 1.

    Raises:
        UserError: the config does not fit the model (`check_training`), or there is no compiler.
    """
    process, solver = context.process, cfg.solver
    check_training(cfg, model, context)
    text = text if text is None else text.to(context.device)
    if solver.compile:
        compile_model(model, context.device)
    trained_model = _on_device(cfg, model, context)
    optimizer = build_optimizer(parameter_groups(cfg, model), solver)
    accept_full_state(optimizer)
    loss = Loss.named(solver.loss_type)(cfg, process.world_size)
    if class_weights is not None:
        loss.class_weights = torch.from_numpy(class_weights).to(context.device)
    objective = Distilled(loss, solver.distill) if solver.distill else loss
    average = None
    if solver.ema is not None:
        average = WeightAverage(model, solver.ema)
    elif solver.average_epochs:
        average = EpochMean(model)
    interpolation = None
    if solver.interpolated_loss:
        interpolation = Interpolation(cfg, model, clip_weights(model) if clip is None else clip)
    return Trainer(
        cfg,
        model=trained_model,
        objective=partial(objective, text=text),
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(context.device.type, enabled=context.precision == "fp16"),
        context=context,
        average=average,
        mixing=Mixing.of(cfg),
        interpolation=interpolation,
    )


def check_training(cfg: Config, model: VideoCLIP, context: RunContext) -> None:
    """Raise a UserError if the model cannot be trained with this config."""
    if cfg.solver.shard != "none":
        check_can_shard(model, cfg.solver.shard, context)
    if cfg.data.cached_draws and model.tower_trains:
        raise UserError(
            "data.cached_draws: frame embeddings cannot be cached, because additions to the image tower are trained; "
            "set it to 0"
        )
    needed = model.fusion_model.loss
    if needed is not None and cfg.solver.loss_type != needed:
        raise UserError(
            f"network.sim_header {cfg.network.sim_header}: needs solver.loss_type {needed}, not "
            f"{cfg.solver.loss_type}; set solver.loss_type={needed}"
        )


def _on_device(cfg: Config, model: VideoCLIP, context: RunContext) -> nn.Module:
    """`model` on its device, itself if there is one process or if it is sharded (in place); otherwise in DDP."""
    solver = cfg.solver
    if solver.shard != "none" and dist.is_initialized():
        shard(model, solver.shard, context)
        return model
    model.to(context.device)
    if context.process.world_size == 1:
        return model
    return data_parallel(model, context.device, solver.grad_accumulation_steps == 1 and not solver.interpolated_loss)


def data_parallel(model: VideoCLIP, device: torch.device, has_one_pass: bool) -> DistributedDataParallel:
    """The model as a member of the process group: its gradients become the mean over the processes.

    Args:
        has_one_pass: whether an optimiser step has one backward pass.
    """
    # Gradients are views of the communication buckets, to avoid a copy. The graph is static, because every step uses
    # the same parameters in the same order; except with several backward passes per step, since DDP records the graph
    # in the first pass, which must then be synchronised.
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True, static_graph=has_one_pass)


def compile_model(model: VideoCLIP, device: torch.device) -> None:
    """Compile image tower and head with torch.compile at their first call; parameters keep their names.

    In a ViT only the blocks are compiled: identical blocks share their code, so a ViT-L takes no longer than a small
    tower. Raises a UserError if there is no compiler for this device.
    """
    if device.type == "cpu" and not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        raise UserError("solver.compile: on a CPU it needs a C++ compiler; install g++ or set solver.compile=false")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UserError("solver.compile: on a GPU it needs Triton; run 'pip install triton' or set it to false")
    tower = ImageTower(model.visual)
    parts = tower.blocks if tower.kind in VITS else [model.visual]
    # Blocks may differ in a constant (dropout rate, position of prompts), and in training and evaluation mode.
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, 4 * len(parts))
    for part in parts:
        part.compile()
    model.fusion_model.compile()
