"""The optimiser and its parameter groups: every parameter in exactly one."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from utils.results import format_table

ADAM = {"betas": (0.9, 0.999), "eps": 1e-8}
# `solver.optim`: the momentum of `solver.momentum` -> what makes the optimiser.
OPTIMIZERS: dict[str, Callable[[float], Callable[..., torch.optim.Optimizer]]] = {
    "adamw": lambda momentum: partial(torch.optim.AdamW, **ADAM),
    "adam": lambda momentum: partial(torch.optim.Adam, **ADAM),
    "sgd": lambda momentum: partial(torch.optim.SGD, momentum=momentum),
}


class ParameterGroup(NamedTuple):
    """`scale` is the learning rate as a share of `solver.lr`; parameters of a `frozen` group do not train."""

    name: str
    scale: float
    parameters: list[tuple[str, nn.Parameter]]
    frozen: bool = False


def split_parameters(model: nn.Module, is_pretrained: Callable[[str], bool], clip_ratio: float) -> list[ParameterGroup]:
    """Three named groups: the pretrained image tower and logit scale, everything new, and what is frozen.

    Args:
        is_pretrained: whether a parameter (by its name in the model) trains at `clip_ratio` times the learning rate.
    """
    pretrained = ParameterGroup("pretrained", clip_ratio, [])
    new = ParameterGroup("new", 1.0, [])
    frozen = ParameterGroup("frozen", 0.0, [], frozen=True)
    for name, parameter in model.named_parameters():
        group = frozen if not parameter.requires_grad else pretrained if is_pretrained(name) else new
        group.parameters.append((name, parameter))
    groups = [pretrained, new, frozen]
    assert sum(len(g.parameters) for g in groups) == len(list(model.parameters()))
    return groups


def describe_groups(groups: list[ParameterGroup], lr: float) -> str:
    """A table of the groups: learning rate, tensors, values, and the modules that they come from."""
    rows = [("group", "lr", "tensors", "parameters", "modules")]
    for group in groups:
        count = sum(p.numel() for _, p in group.parameters)
        modules = sorted({name.split(".")[0] for name, _ in group.parameters})
        rate = "-" if group.frozen else f"{lr * group.scale:.3g}"
        rows.append((group.name, rate, str(len(group.parameters)), f"{count:,}", ", ".join(modules) or "-"))
    return format_table(rows)


def build_optimizer(
    groups: list[ParameterGroup], kind: str, lr: float, weight_decay: float, momentum: float
) -> torch.optim.Optimizer:
    """AdamW and Adam with betas 0.9 0.999 and eps 1e-8, or SGD; weight decay on every trainable parameter.

    Each param group carries `name` and `lr_scale`, so that `set_lr` needs nothing else.
    """
    param_groups = [
        {"params": [p for _, p in g.parameters], "lr": lr * g.scale, "lr_scale": g.scale, "name": g.name}
        for g in groups
        if g.parameters and not g.frozen
    ]
    assert param_groups, "nothing to train"
    # fused: one kernel over all parameters, which also leaves them alone where told so on the device.
    return OPTIMIZERS[kind](momentum)(param_groups, lr=lr, weight_decay=weight_decay, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> dict[str, float]:
    """Give each group its share of `lr`; returns the rate of each group by name."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
    return {group["name"]: group["lr"] for group in optimizer.param_groups}
