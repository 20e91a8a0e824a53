"""`sim_header: Transf`, the published temporal head: transformer blocks over the frame embeddings.

Shapes: B batch, T frames, D embedding.
"""

import logging
from collections import OrderedDict

import torch
from open_clip.transformer import QuickGELU
from torch import nn

from clip import ClipModel
from clip.fast_layers import SelfAttention
from modules.frame_positions import interpolate_positions
from modules.heads.head import Head
from utils.schema import Config

log = logging.getLogger(__name__)

MAX_FRAMES = 77  # rows of the published position table, from CLIP's context length
HEAD_WIDTH = 64  # channels of an attention head
NORM_EPS = 1e-12  # as published


class Block(nn.Module):
    """Pre-norm transformer block: attention, then an MLP of 4D with QuickGELU, each added to its input."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.attn = SelfAttention(width, num_heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width, eps=NORM_EPS)
        c_fc, c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(OrderedDict(c_fc=c_fc, gelu=QuickGELU(), c_proj=c_proj))
        self.ln_2 = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.ln_1(x)
        x = x + self.attn(z, z, z, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, num_layers: int, num_heads: int):
        super().__init__()
        self.resblocks = nn.Sequential(*(Block(width, num_heads) for _ in range(num_layers)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.resblocks(x)


class TemporalTransformer(Head):
    """A transformer over frame embeddings, added to them, then the mean over frames.

    With x the (B, T, D) frame embeddings and z = x + position[:T]: mean over T of blocks(z) + x. There is no mask:
    every frame attends to all frames. D must be a multiple of num_heads.
    """

    described = "a temporal head"
    mark = "transformer.resblocks.0.mlp.c_fc.weight"
    # The output of the branches is linear in these parameters. If they are zero, the result is mean(2 x), which has the
    # direction of the mean of the frames, and the cosine depends only on the direction.
    fades = (
        "frame_position_embeddings.weight",
        *(f"{n}.{p}" for n in ("out_proj", "c_proj") for p in ("weight", "bias")),
    )

    def __init__(self, width: int, num_heads: int, num_layers: int = 6):
        super().__init__()
        self.frame_position_embeddings = nn.Embedding(MAX_FRAMES, width)
        self.transformer = Transformer(width, num_layers, num_heads)
        self.apply(self._initialize)

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel) -> "TemporalTransformer":
        if cfg.data.num_frames > MAX_FRAMES:
            log.warning(
                "data.num_segments x data.seg_length is %d frames: the head's positions of %d are interpolated",
                cfg.data.num_frames,
                MAX_FRAMES,
            )
        num_heads = num_heads_for(clip_model.embed_dim, clip_model.text_width)
        return cls(clip_model.embed_dim, num_heads, cfg.network.head_layers, **cls.settings(cfg).model_dump())

    def fault(self, state: dict[str, torch.Tensor]) -> str | None:
        num_layers = len({name.split(".")[2] for name in state if name.startswith("transformer.resblocks.")})
        own = len(self.transformer.resblocks)
        if num_layers != own:
            return (
                f"its temporal head has {num_layers} layers and the config's {own}; set network.head_layers to "
                f"{num_layers}"
            )
        positions = state.get("frame_position_embeddings.weight")
        if positions is not None and len(positions) != MAX_FRAMES:
            return (
                f"its temporal head has positions for {len(positions)} frames, not {MAX_FRAMES} as in all published "
                "checkpoints; it was written by another program"
            )
        return None

    @staticmethod
    def _initialize(module: nn.Module) -> None:
        # As published: in_proj is not a linear layer there either, and keeps its default initialisation.
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def over_frames(self, frames: torch.Tensor) -> torch.Tensor:
        positions = positions_of(self.frame_position_embeddings.weight, frames.shape[1])
        frames = frames.float()  # under autocast the tower returns half precision; the residual stream is float32
        out = self.transformer(frames + positions)
        return out + frames


def positions_of(table: torch.Tensor, num_frames: int) -> torch.Tensor:
    """(num_frames, D): the first rows of the position table, or interpolated if there are more frames than rows."""
    return table[:num_frames] if num_frames <= len(table) else interpolate_positions(table, num_frames)


def num_heads_for(width: int, text_width: int) -> int:
    """Number of attention heads of the temporal head: text_width // 64, as published; if that does not divide the
    embedding dimension (some open_clip models), heads of 64 channels, or one head."""
    num_heads = max(1, text_width // HEAD_WIDTH)
    if width % num_heads == 0:
        return num_heads
    return width // HEAD_WIDTH if width % HEAD_WIDTH == 0 else 1
