"""`sim_header: MoTE` (arXiv 2410.10589): the temporal head with a mixture of experts in place of the MLP of each block.

Shapes: B batch, T frames, D embedding, E experts.
"""

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from modules.heads.head import Passes
from modules.heads.transf import Block, TemporalTransformer, positions_of
from utils.config_fields import Section, key
from utils.metrics import softmax

TEMPERATURES = (0.6, -0.6, 1.2, -1.2, 2.4, -2.4, 4.8, -4.8, 9.6, -9.6, math.inf)
"""Temperatures that a training step draws from for its merged pass."""


class MixtureBlock(nn.Module):
    """A block of the temporal head with E MLPs, which are copies of the block's MLP at initialisation. (The published
    code draws each of them, although the paper describes copies.)

    `shares`: the E weights with which they are merged, with sum 1.
    """

    def __init__(self, block: nn.Module, num_experts: int):
        super().__init__()
        assert isinstance(block, Block)
        self.attn, self.ln_1, self.ln_2 = block.attn, block.ln_1, block.ln_2
        self.experts = nn.ModuleList(copy.deepcopy(block.mlp) for _ in range(num_experts))

    def forward(self, x: torch.Tensor, shares: Sequence[float]) -> torch.Tensor:
        z = self.ln_1(x)
        x = x + self.attn(z, z, z, need_weights=False)[0]
        return x + self._mlp(self.ln_2(x), shares)

    def _mlp(self, x: torch.Tensor, shares: Sequence[float]) -> torch.Tensor:
        if 1 in shares:
            return self.experts[shares.index(1)](x)
        states = [dict(expert.named_parameters()) for expert in self.experts]
        parts = {name: [share * state[name] for share, state in zip(shares, states)] for name in states[0]}
        merged = {name: torch.stack(of_name).sum(dim=0) for name, of_name in parts.items()}
        return functional_call(self.experts[0], merged, (x,))


class TemporalMixture(TemporalTransformer):
    """Like TemporalTransformer, with `network.head_layers` MixtureBlocks.

    Evaluation merges the experts evenly. A training step draws an expert for each block, with probabilities
    softmax(1..E), and a temperature t, which merges the experts by softmax((1..E) / t) in a second pass (`passes`).
    """

    class Settings(Section):
        num_experts: int = key(4, "MLPs of each block", "experts", ge=2, le=64)

    described = "a temporal head of experts"
    mark = "transformer.resblocks.0.experts.0.c_fc.weight"
    loss = "mixture"
    published_names = (
        (r"^(fusion_model\.transformer\.resblocks\.\d+)\.mlp\.fc_up\.(\d+)\.", r"\1.experts.\2.c_fc."),
        (r"^(fusion_model\.transformer\.resblocks\.\d+)\.mlp\.fc_dn\.(\d+)\.", r"\1.experts.\2.c_proj."),
    )
    # Weights of the experts in evaluation, before softmax; constant, so that all are equal.
    published_zeros = r"^fusion_model\.transformer\.resblocks\.\d+\.mlp\.mote_fusion_weight$"

    def __init__(self, width: int, num_heads: int, num_layers: int, num_experts: int):
        super().__init__(width, num_heads, num_layers)
        blocks = nn.ModuleList(MixtureBlock(block, num_experts) for block in self.transformer.resblocks)
        self.transformer.add_module("resblocks", blocks)
        self.num_experts = num_experts
        self.drawn = [(0, math.inf)] * num_layers  # expert and temperature of each block

    @property
    def resblocks(self) -> nn.ModuleList:
        blocks = self.transformer.resblocks
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def fault(self, state: dict[str, torch.Tensor]) -> str | None:
        names = [name.split(".") for name in state if ".experts." in name]  # transformer.resblocks.N.experts.M...
        num_layers, num_experts = len({parts[2] for parts in names}), len({parts[4] for parts in names})
        if (num_layers, num_experts) != (len(self.resblocks), self.num_experts):
            return (
                f"its temporal head has {num_layers} layers of {num_experts} experts; set network.head_layers and "
                "components.MoTE.num_experts to these"
            )
        return None

    def draw(self, generator: np.random.Generator) -> None:
        experts = generator.choice(self.num_experts, size=len(self.resblocks), p=self._shares(1))
        temperatures = generator.choice(TEMPERATURES, size=len(self.resblocks))
        self.drawn = list(zip(experts.tolist(), temperatures.tolist()))

    def over_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """See the base class; with the drawn experts in training, and all experts merged evenly in evaluation."""
        even = self._shares(math.inf)
        shares = [self._one_hot(expert) if self.training else even for expert, _ in self.drawn]
        return self._run(frames.float(), shares)

    def passes(self, frames: torch.Tensor) -> Passes:
        frames = frames.float()
        drawn = self._run(frames, [self._one_hot(expert) for expert, _ in self.drawn])
        merged = self._run(frames, [self._shares(temperature) for _, temperature in self.drawn])
        return Passes(drawn, merged, (merged - frames).square().mean(dim=(1, 2)))

    def _one_hot(self, expert: int) -> list[float]:
        return [float(other == expert) for other in range(self.num_experts)]

    def _shares(self, temperature: float) -> list[float]:
        """softmax((1..E) / temperature)."""
        return softmax(np.arange(1, self.num_experts + 1) / temperature).tolist()

    def _run(self, frames: torch.Tensor, shares: list[list[float]]) -> torch.Tensor:
        x = frames + positions_of(self.frame_position_embeddings.weight, frames.shape[1])
        for block, of_experts in zip(self.resblocks, shares):
            x = block(x, of_experts)
        return x + frames
