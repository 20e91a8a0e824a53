"""`sim_header: MIT`, the multiframe integration transformer of X-CLIP (arXiv 2208.02816).

Shapes: B batch, T frames, D embedding.
"""

import torch
from torch import nn

from clip import ClipModel
from modules.heads.head import Head
from modules.heads.transf import HEAD_WIDTH, Block
from utils.errors import UserError
from utils.schema import Config

NORM_EPS = 1e-5


class MultiframeIntegration(Head):
    """With x the (B, T, D) frame embeddings and p positions of T frames: mean over T of blocks(x + p) + x.

    `network.head_layers` pre-norm blocks with D / 64 attention heads and QuickGELU; X-CLIP has one. T must be the same
    as in training.
    """

    described = "X-CLIP's temporal head"
    mark = "positional_embedding"
    fades = ("positional_embedding", *(f"{n}.{p}" for n in ("out_proj", "c_proj") for p in ("weight", "bias")))
    published_names = ((r"^mit\.", "fusion_model."),)

    def __init__(self, width: int, num_frames: int, num_layers: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(1, num_frames, width))
        self.resblocks = nn.Sequential(*(Block(width, max(1, width // HEAD_WIDTH)) for _ in range(num_layers)))
        nn.init.trunc_normal_(self.positional_embedding, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.eps = NORM_EPS

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel) -> "MultiframeIntegration":
        width = clip_model.embed_dim
        if width > HEAD_WIDTH and width % HEAD_WIDTH:
            raise UserError(
                f"network.sim_header MIT: the embedding dimension {width} is not a multiple of the head width "
                f"{HEAD_WIDTH}; set it to Transf"
            )
        return cls(width, cfg.data.num_frames, cfg.network.head_layers)

    def fault(self, state: dict[str, torch.Tensor]) -> str | None:
        num_layers = len({name.split(".")[1] for name in state if name.startswith("resblocks.")})
        if num_layers != len(self.resblocks):
            return f"its temporal head has {num_layers} layers; set network.head_layers to {num_layers}"
        num_frames, own = state["positional_embedding"].shape[1], self.positional_embedding.shape[1]
        if num_frames != own:
            return f"was trained on {num_frames} frames; set data.num_segments to that, not {own}"
        return None

    def over_frames(self, frames: torch.Tensor) -> torch.Tensor:
        num_frames = self.positional_embedding.shape[1]
        if frames.shape[1] != num_frames:
            raise UserError(
                f"network.sim_header MIT: has positions for {num_frames} frames, but the clips have {frames.shape[1]}; "
                f"set data.num_segments x data.seg_length to {num_frames}"
            )
        frames = frames.float()
        return self.resblocks(frames + self.positional_embedding) + frames
