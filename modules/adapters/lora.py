"""`adapter: lora`: low-rank changes of the weights of attention and MLP (LoRA, arXiv 2106.09685).

peft is not used: it renames CLIP's parameters (`base_layer`), so that checkpoints of the tower would load nowhere else,
and it wraps linear layers that are called, while open_clip's and timm's attention read the weights of theirs.

Shapes: C width, r rank; a weight is (out, in), as torch has them.
"""

from functools import partial
from typing import Literal

import torch
from torch import nn

from modules.adapters.adapter import Adapter
from modules.tower_blocks import ImageTower, TowerBlock
from utils.config_fields import Section, key
from utils.schema import Config

Part = Literal["query", "key", "value", "out", "mlp"]
FUSED = ("in_proj_weight", "qkv.weight")  # query, key and value in one, in this order
SEPARATE = {"q_proj.weight": "query", "k_proj.weight": "key", "v_proj.weight": "value"}
OUT = ("out_proj.weight", "proj.weight")


class LowRank(nn.Module):
    """up (out, r) times down (r, in); up starts at zero."""

    def __init__(self, out_width: int, in_width: int, rank: int):
        super().__init__()
        self.down, self.up = nn.Parameter(torch.empty(rank, in_width)), nn.Parameter(torch.zeros(out_width, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)  # as torch.nn.Linear starts, and LoRA's own code

    def forward(self) -> torch.Tensor:
        return self.up @ self.down


class BlockLora(nn.Module):
    """The changes of one block: of the weights of `attn` and `mlp`, by name.

    Args:
        parts: which are changed; `mlp` is all linear layers of the MLP.
        scale: alpha / r.
    """

    def __init__(self, block: TowerBlock, parts: list[Part], rank: int, scale: float):
        super().__init__()
        self.scale = scale
        self.changes = nn.ModuleDict()
        # Of each changed weight: the keys of its changes from the first rows to the last, None where rows stay.
        self.keys: dict[str, dict[str, list[str | None]]] = {"attn": {}, "mlp": {}}
        for name, weight in block.get_submodule("attn").named_parameters():
            if weight.ndim == 2 and (keys := [part if part in parts else None for part in _parts_of(name)]):
                self._add("attn", name, weight, keys, rank)
        for name, weight in block.get_submodule("mlp").named_parameters():
            if weight.ndim == 2 and "mlp" in parts:
                self._add("mlp", name, weight, [f"mlp_{name.removesuffix('.weight')}"], rank)

    def _add(self, module: str, name: str, weight: torch.Tensor, keys: list[str | None], rank: int) -> None:
        for key_ in filter(None, keys):
            self.changes[key_] = LowRank(len(weight) // len(keys), weight.shape[1], rank)
        if any(keys):
            self.keys[module][name] = keys

    def changed(self, block: TowerBlock, module: str) -> dict[str, torch.Tensor]:
        """The weights of a submodule of the block, `attn` or `mlp`, with their changes."""
        weights = dict(getattr(block, module).named_parameters())
        return {
            name: weights[name] + self.scale * self._change(weights[name], keys)
            for name, keys in self.keys[module].items()
        }

    def _change(self, weight: torch.Tensor, keys: list[str | None]) -> torch.Tensor:
        zeros = weight.new_zeros(len(weight) // len(keys), weight.shape[1])
        return torch.cat([zeros if key_ is None else self.changes[key_]() for key_ in keys])


def _parts_of(name: str) -> list[str]:
    """The parts that a weight of an attention module holds, from its first rows to its last; []: none that changes."""
    if name in FUSED:
        return ["query", "key", "value"]
    if name in OUT:
        return ["out"]
    return [SEPARATE[name]] if name in SEPARATE else []


class Lora(Adapter):
    class Settings(Section):
        rank: int = key(8, "r, rank of a change", "", ge=1)
        alpha: float = key(8.0, "a change is multiplied by alpha / rank", "", gt=0)
        parts: list[Part] = key(
            lambda: ["query", "key", "value", "out", "mlp"], "of a block, whose weights change", min_length=1
        )

    setting = "network.adapter: lora"
    new_parameters = r"^visual\..*\.lora\."

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        own = cls.settings(cfg)
        for block in tower.blocks:
            block.lora = changes = BlockLora(block, own.parts, own.rank, own.alpha / own.rank)
            block.changed_weights = partial(changes.changed, block)

    @classmethod
    @torch.no_grad()
    def merge(cls, visual: nn.Module) -> None:
        for block in [module for module in visual.modules() if isinstance(module, TowerBlock)]:
            changes = getattr(block, "lora", None)
            if changes is None:
                continue
            for module in ("attn", "mlp"):
                weights = dict(getattr(block, module).named_parameters())
                for name, weight in changes.changed(block, module).items():
                    weights[name].copy_(weight)
            del block.lora
            block.changed_weights = None
