"""`adapter: lora`: low-rank updates of the weights of attention and MLP (LoRA, arXiv 2106.09685).

peft is not used, because it renames CLIP's parameters (`base_layer`), so that checkpoints of the tower could not be
loaded elsewhere, and wraps calls of linear layers, while the attention of open_clip and timm reads their weights.

Shapes: C width, r rank; a weight is (out, in), as in PyTorch.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from timm.models.eva import EvaAttention
from torch import nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from clip.fast_layers import SelfAttention
from modules.adapters.adapter import Adapter
from modules.tower_blocks import ImageTower, TowerBlock
from utils.config_fields import Section, key
from utils.schema import Config

Part = Literal["query", "key", "value", "out", "mlp"]
# The parts of each weight of an attention module, in row order.
PARTS: dict[str, list[Part]] = {
    **dict.fromkeys(("in_proj_weight", "qkv.weight"), ["query", "key", "value"]),
    "q_proj.weight": ["query"],
    "k_proj.weight": ["key"],
    "v_proj.weight": ["value"],
    **dict.fromkeys(("out_proj.weight", "proj.weight"), ["out"]),
}


class LowRank(nn.Module):
    """up (out, r) times down (r, in); up is initialised with zeros."""

    def __init__(self, out_width: int, in_width: int, rank: int):
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, in_width))
        self.up = nn.Parameter(torch.zeros(out_width, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)  # as in torch.nn.Linear and the code of LoRA


class BlockLora(nn.Module):
    """The low-rank updates of the weights of `attn` and `mlp` in one block.

    They are applied to activations, x W^T + scale (x down^T) up^T, because an updated weight would be saved for the
    backward pass and need a full-size gradient.

    Args:
        parts: which weights are updated; `mlp`: all linear layers of the MLP.
        scale: alpha / r.
    """

    def __init__(self, block: TowerBlock, parts: list[Part], rank: int, scale: float):
        super().__init__()
        self.scale = scale
        self.changes = nn.ModuleDict()
        # Name of a changed weight in the block -> keys of its changes in row order, None for unchanged rows.
        self.keys: dict[str, list[str | None]] = {}
        self._hooks: list[RemovableHandle] = []
        for name, _ in block.get_submodule("attn").named_parameters():
            keys = [part if part in parts else None for part in PARTS.get(name, [])]
            if any(keys):
                self._add(block, f"attn.{name}", keys, rank)
        for name, weight in block.get_submodule("mlp").named_parameters():
            if weight.ndim == 2 and "mlp" in parts:
                self._add(block, f"mlp.{name}", [f"mlp_{name.removesuffix('.weight')}"], rank)

    def _add(self, block: TowerBlock, name: str, keys: list[str | None], rank: int) -> None:
        """Add the updates of the weight `name`, and apply them to the output of the module that has it."""
        weight = block.get_parameter(name)
        path, _, own_name = name.rpartition(".")
        for key_ in filter(None, keys):
            self.changes[key_] = LowRank(len(weight) // len(keys), weight.shape[1], rank)
        self.keys[name] = keys
        module = block.get_submodule(path)
        change = partial(self._on, keys)
        if own_name == "weight":
            self._hooks.append(module.register_forward_hook(partial(_added, change)))
        else:
            assert isinstance(module, SelfAttention)
            module.beside_in_proj = change  # the attention reads in_proj_weight without calling a module

    def _on(self, keys: list[str | None], x: torch.Tensor) -> torch.Tensor:
        """The contribution of the updates of a weight to its product with x (..., in): (..., out)."""
        by_part = [None if key_ is None else self._change(key_) for key_ in keys]
        changes = [change for change in by_part if change is not None]
        if len(by_part) == 1:
            down, up = changes[0].down, changes[0].up
        else:
            rows = changes[0].up.new_empty(len(changes[0].up), 0)  # a part that is not updated
            down = torch.cat([change.down for change in changes])
            up = torch.block_diag(*(rows if change is None else change.up for change in by_part))
        return F.linear(F.linear(x, down), self.scale * up)

    def _change(self, key_: str) -> LowRank:
        change = self.changes[key_]
        assert isinstance(change, LowRank)
        return change

    def merge(self, block: TowerBlock) -> None:
        """Merge the updates into the weights of the block."""
        for hook in self._hooks:
            hook.remove()
        for name, keys in self.keys.items():
            weight = block.get_parameter(name)
            for key_, rows in zip(keys, weight.chunk(len(keys)), strict=True):
                if key_ is not None:
                    rows += self.scale * self._change(key_).up @ self._change(key_).down
            module = block.get_submodule(name.rpartition(".")[0])
            if isinstance(module, SelfAttention):
                module.beside_in_proj = None


def _added(
    change: Callable[[torch.Tensor], torch.Tensor], layer: nn.Module, inputs: tuple[torch.Tensor], out: torch.Tensor
) -> torch.Tensor:
    """Forward hook of a linear layer."""
    return out + change(inputs[0])


class Lora(Adapter):
    class Settings(Section):
        rank: int = key(8, "r, rank of the updates", ge=1)
        alpha: float = key(8.0, "updates are multiplied by alpha / rank", gt=0)
        parts: list[Part] = key(
            lambda: ["query", "key", "value", "out", "mlp"], "weights of a block to update", min_length=1
        )

    setting = "network.adapter: lora"
    new_parameters = r"^visual\..*\.lora\."
    factors = r"\.lora\.changes\.\w+\.down$"  # with `up` from 0 the updates grow linearly, as weights do

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        own = cls.settings(cfg)
        for block in tower.blocks:
            attention = block.get_submodule("attn")
            if isinstance(attention, EvaAttention):
                attention.qkv_bias_separate = True  # so that it calls the linear layer
            block.lora = BlockLora(block, own.parts, own.rank, own.alpha / own.rank)
        cls.recompute(tower, cfg)

    @classmethod
    def average(
        cls, states: Sequence[dict[str, torch.Tensor]], settings: dict[str, Any]
    ) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The mean of the products up x down: all factors side by side, of the sum of the ranks."""
        own = cls.Settings.model_validate(settings)
        num_states = len(states)
        average = {}
        for name in states[0]:
            if ".lora.changes." in name:
                factors = [state[name] for state in states]
                average[name] = torch.cat(factors) if name.endswith(".down") else torch.cat(factors, dim=1) / num_states
        return average, {**own.model_dump(), "rank": num_states * own.rank, "alpha": num_states * own.alpha}

    @classmethod
    @torch.no_grad()
    def merge(cls, visual: nn.Module) -> None:
        for block in [module for module in visual.modules() if isinstance(module, TowerBlock)]:
            lora = getattr(block, "lora", None)
            if lora is not None:
                lora.merge(block)
                del block.lora
