"""Sharded training with PyTorch's FSDP2 (`solver.shard`): each process keeps a shard of weights, gradients and
averages.

Each transformer block of a tower is a unit, and the rest of the model is another. Weights are gathered and gradients
averaged in float32 (`MixedPrecisionPolicy()`), with the same autocast as without sharding, so the losses are those of
DistributedDataParallel. State dicts contain sharded tensors, which `gathered` gathers; full tensors can be loaded.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from modules.tower_blocks import BLOCKS, TowerBlock
from modules.video_clip import VideoCLIP
from utils.context import RunContext
from utils.errors import UserError

IS_SUPPORTED = hasattr(FSDPModule, "set_reshard_after_forward")  # since PyTorch 2.8


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks of the towers in `model`."""
    return [module for module in model.modules() if isinstance(module, (TowerBlock, *BLOCKS))]


def check_can_shard(model: VideoCLIP, kind: str, context: RunContext) -> None:
    """Raises a UserError if PyTorch is too old, the image tower has no blocks to shard, or the precision is fp16."""
    if not IS_SUPPORTED:
        raise UserError(f"solver.shard {kind}: needs PyTorch 2.8 or later, this is {torch.__version__}; set it to none")
    if not blocks_of(model.visual):
        raise UserError(f"solver.shard {kind}: needs a ViT, and this image tower has no blocks; set it to none")
    if context.precision == "fp16":
        raise UserError(f"solver.shard {kind}: is not supported in fp16; set solver.precision to bf16 or fp32")


def shard(model: VideoCLIP, kind: str, context: RunContext) -> None:
    """Shard the parameters of `model` over the process group, in place. Create the optimiser afterwards.

    FSDP2 moves each unit to the device as it shards it, so that a model on the CPU is never on a GPU as a whole.

    Args:
        kind: `grad`: the weights of a block stay gathered from the forward to the backward pass; `full`: they are
            gathered in each pass.
    """
    mesh = init_device_mesh(context.device.type, (dist.get_world_size(),))
    # FSDP2 does not support 0-dimensional parameters (the logit scale), which stay replicated.
    scalars = {parameter for parameter in model.parameters() if parameter.ndim == 0}
    for block in blocks_of(model):
        fully_shard(block, mesh=mesh, reshard_after_forward=kind == "full", mp_policy=MixedPrecisionPolicy())
    fully_shard(model, mesh=mesh, reshard_after_forward=False, ignored_params=scalars)
    for parameter in scalars:
        parameter.data = parameter.data.to(context.device)
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_average)
    for name in ("video_features", "class_embeddings"):  # forward passes of validation
        register_fsdp_forward_method(model, name)
    layout = {name: parameter for name, parameter in model.named_parameters() if isinstance(parameter, DTensor)}

    def shard_loaded_state(module: nn.Module, state: dict[str, torch.Tensor], *_: Any) -> None:
        state |= {name: _share(value, layout[name]) for name, value in state.items() if name in layout}

    model.register_load_state_dict_pre_hook(shard_loaded_state)


def _average(parameter: torch.Tensor) -> None:
    # Does not change accumulated gradients that are already equal on all processes.
    assert parameter.grad is not None
    dist.all_reduce(parameter.grad)
    parameter.grad /= dist.get_world_size()


def _share(value: torch.Tensor, like: DTensor) -> torch.Tensor:
    """This process's shard of a full tensor that all processes have."""
    if isinstance(value, DTensor):
        return value
    share = distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    return share.clone()  # a view would keep the full tensor in memory


def accept_full_state(optimizer: torch.optim.Optimizer) -> None:
    """Let `load_state_dict` of an optimiser with sharded parameters accept full tensors."""

    def shard_loaded_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        numbers = [number for group in state["param_groups"] for number in group["params"]]
        of_parameters = dict(state["state"])
        for number, parameter in zip(numbers, parameters):
            if isinstance(parameter, DTensor) and number in of_parameters:
                of_parameters[number] = {
                    name: _share(value, parameter) if torch.is_tensor(value) and value.ndim else value
                    for name, value in of_parameters[number].items()
                }
        return {**state, "state": of_parameters}

    optimizer.register_load_state_dict_pre_hook(shard_loaded_state)


def gathered(tree: Any, keep: bool = True) -> Any:
    """Replace sharded tensors in nested dicts and lists with full ones on the CPU.

    Called by all processes; those without `keep` get empty tensors.
    """
    if isinstance(tree, Mapping):
        return {name: gathered(value, keep) for name, value in tree.items()}
    if isinstance(tree, list):
        return [gathered(value, keep) for value in tree]
    if isinstance(tree, DTensor):
        whole = tree.full_tensor()
        return whole.cpu() if keep else whole.new_empty(0, device="cpu")
    return tree


@contextmanager
def unsharded(model: nn.Module, kind: str) -> Iterator[None]:
    """Context with all weights gathered, so that processes may make different numbers of passes without gradient.

    Args:
        kind: see `shard`; models without sharding are unchanged.
    """
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(kind == "full" and part is not model, recurse=False)
