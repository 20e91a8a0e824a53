"""The optimiser and its parameter groups."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import nn

from modules.optimizers import OPTIMIZERS
from utils.errors import UserError, first_line
from utils.results import format_table
from utils.schema import SolverConfig


class ParameterGroup(NamedTuple):
    """Parameters with one learning rate and one weight decay."""

    name: str  # may be shared, as by the layers of a tower with `solver.layer_decay`
    scale: float  # the learning rate as a share of `solver.lr`
    parameters: list[tuple[str, nn.Parameter]]
    frozen: bool = False  # not trained
    decays: bool = True  # whether weight decay applies


def split_parameters(
    model: nn.Module, rate_of: Callable[[str], tuple[str, float]], decay_1d: bool = True
) -> list[ParameterGroup]:
    """Groups of the trainable parameters by name, rate and weight decay, followed by the frozen parameters.

    Args:
        rate_of: a parameter's name in the model -> its group's name, and its learning rate as a share of `solver.lr`.
        decay_1d: whether weight decay applies to tensors of at most one dimension.
    """
    groups: dict[tuple[str, float, bool], ParameterGroup] = {}
    frozen = ParameterGroup("frozen", 0.0, [], frozen=True)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            frozen.parameters.append((name, parameter))
            continue
        group_name, scale = rate_of(name)
        decays = decay_1d or parameter.ndim > 1
        empty = ParameterGroup(group_name, scale, [], decays=decays)
        groups.setdefault((group_name, scale, decays), empty).parameters.append((name, parameter))
    return [*groups.values(), frozen]


def describe_groups(groups: list[ParameterGroup], lr: float) -> str:
    """A table of the groups, merged by name: learning rates, tensors, parameters, and modules."""
    rows = [("group", "lr", "tensors", "parameters", "without decay", "modules")]
    for name in dict.fromkeys(group.name for group in groups):
        parts = [group for group in groups if group.name == name]
        tensors = [pair for group in parts for pair in group.parameters]
        scales = {group.scale for group in parts}
        rates = [f"{lr * scale:.3g}" for scale in dict.fromkeys((min(scales), max(scales)))]
        undecayed = sum(len(group.parameters) for group in parts if not group.decays)
        modules = sorted({name.split(".")[0] for name, _ in tensors})
        rows.append(
            (
                name,
                "-" if parts[0].frozen else " to ".join(rates),
                str(len(tensors)),
                f"{sum(p.numel() for _, p in tensors):,}",
                str(undecayed),
                ", ".join(modules) or "-",
            )
        )
    return format_table(rows)


def build_optimizer(groups: list[ParameterGroup], solver: SolverConfig) -> torch.optim.Optimizer:
    """The optimiser `solver.optim`: AdamW, Adam (eps 1e-8) or SGD of PyTorch, or one of timm.

    Each param group carries `name` and `lr_scale`, so that `set_lr` needs nothing else. Raises a UserError if it does
    not support the betas or the parameters.
    """
    param_groups = [
        {
            "params": [p for _, p in group.parameters],
            "lr": solver.lr * group.scale,
            "lr_scale": group.scale,
            "name": group.name,
            "weight_decay": solver.weight_decay if group.decays else 0.0,
        }
        for group in groups
        if group.parameters and not group.frozen
    ]
    assert param_groups, "nothing to train"
    own = OPTIMIZERS.get(solver.optim)
    if own is None and solver.optim not in list_optimizers():
        raise UserError(f"solver.optim: the installed timm has no {solver.optim}; pip install --upgrade timm")
    betas = {} if solver.betas is None else {"betas": tuple(solver.betas)}
    num_betas = get_optimizer_info(solver.optim).num_betas if own is None else own.num_betas
    if solver.betas is not None and len(solver.betas) != num_betas:
        raise UserError(
            f"solver.betas: {solver.optim} has {num_betas} betas, not {len(solver.betas)}; correct or remove them"
        )
    shared = {"lr": solver.lr, "weight_decay": solver.weight_decay, **betas}
    if own is not None:
        if own.takes_momentum:
            shared["momentum"] = solver.momentum
        # fused: one kernel for all parameters, which also supports skipping the update by a flag on the device.
        return getattr(torch.optim, own.name)(param_groups, fused=True, **shared)
    try:
        return create_optimizer_v2(param_groups, opt=solver.optim, momentum=solver.momentum, **shared)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"solver.optim: {solver.optim} could not be created ({first_line(error)}); choose another"
        ) from error


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> dict[str, float]:
    """Set the learning rate of each group to its share of `lr`; returns the highest rate of each name."""
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        rates[group["name"]] = max(group["lr"], rates.get(group["name"], 0.0))
    return rates
