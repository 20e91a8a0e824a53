"""`--probes attentive` (V-JEPA 2, arXiv 2506.09985): self-attention over all tokens, then a learned query reads them.

Shapes: B clips, L tokens, C width, H heads, K classes.
"""

import math

import torch
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import nn
from torch.nn import functional as F

from modules.probes.probe import Probe
from utils.config_fields import Section, key
from utils.errors import UserError
from utils.schema import Config

INIT_STD = 0.02
MLP_RATIO = 4


class CrossAttentionBlock(nn.Module):
    """Cross-attention of a query (B, 1, C) to normalised tokens (B, L, C) -> (B, 1, C), without output projection."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.mlp = Mlp(width, MLP_RATIO * width)

    def forward(self, query: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        keys, values = self.key_value(self.norm1(tokens)).chunk(2, dim=-1)
        queries, keys, values = self._heads(self.query(query)), self._heads(keys), self._heads(values)
        attended = F.scaled_dot_product_attention(queries, keys, values)
        query = query + attended.transpose(1, 2).flatten(2)
        return query + self.mlp(self.norm2(query))

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """(B, L, C) -> (B, H, L, C / H)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class AttentiveProbe(Probe):
    """`depth` - 1 self-attention blocks over the tokens, the query's block, a linear classifier."""

    class Settings(Section):
        depth: int = key(4, "number of blocks, including that of the query", "blocks", ge=1, le=64)
        num_heads: int = key(16, "attention heads per block", "heads", ge=1)

    def __init__(self, width: int, num_classes: int, depth: int = 4, num_heads: int = 16):
        super().__init__()
        self.query = nn.Parameter(torch.empty(width))
        self.blocks = nn.ModuleList(
            Block(width, num_heads, MLP_RATIO, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(depth - 1)
        )
        self.cross = CrossAttentionBlock(width, num_heads)
        self.classifier = nn.Linear(width, num_classes)
        self._initialize()

    @classmethod
    def build(cls, cfg: Config, width: int, num_classes: int) -> "AttentiveProbe":
        settings = cls.settings(cfg)
        if width % settings.num_heads:
            raise UserError(
                f"components.attentive.num_heads: the token width {width} is not a multiple of {settings.num_heads}; "
                "set it to a divisor"
            )
        return cls(width, num_classes, settings.depth, settings.num_heads)

    def _initialize(self) -> None:
        nn.init.trunc_normal_(self.query, std=INIT_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)
        # Initial outputs are scaled down with depth; the query's block is scaled like the last of the others, as in the
        # code of V-JEPA 2.
        with torch.no_grad():
            for layer, block in enumerate(self.blocks, 1):
                for name in ("attn.proj.weight", "mlp.fc2.weight"):
                    block.get_parameter(name).div_(math.sqrt(2 * layer))
            self.cross.mlp.fc2.weight.div_(math.sqrt(2 * max(1, len(self.blocks))))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        query = self.query.expand(len(tokens), 1, -1)
        return self.classifier(self.cross(query, tokens)[:, 0])
