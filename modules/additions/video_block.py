"""A ViT's residual block in which something can happen over time."""

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn


class VideoBlock(nn.Module):
    """An open_clip residual attention block, its submodules taken over by name.

    Attributes:
        over_time: applied to the residual stream (N, L, C) before attention.
        before_mlp: whether it is applied once more before the MLP.
        drop_path: applied to what each branch adds to the stream.
    """

    def __init__(self, block: ResidualAttentionBlock):
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = block.ln_1, block.attn, block.ls_1
        self.ln_2, self.mlp, self.ls_2 = block.ln_2, block.mlp, block.ls_2
        self.over_time: nn.Module = nn.Identity()
        self.before_mlp = False
        self.drop_path: nn.Module = nn.Identity()

    def forward(
        self, x: torch.Tensor, k_x: None = None, v_x: None = None, attn_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(N, L, C) -> (N, L, C). The other arguments are the ones that open_clip's transformer passes, None here."""
        x = self.over_time(x)
        normed = self.ln_1(x)
        attended = self.attn(normed, normed, normed, need_weights=False, attn_mask=attn_mask)[0]
        x = x + self.drop_path(self.ls_1(attended))
        if self.before_mlp:
            x = self.over_time(x)
        return x + self.drop_path(self.ls_2(self.mlp(self.ln_2(x))))


def video_blocks(visual: VisionTransformer) -> list[VideoBlock]:
    """The tower's blocks, each made a VideoBlock where it is not one yet."""
    blocks = visual.transformer.resblocks
    for i, block in enumerate(blocks):
        if not isinstance(block, VideoBlock):
            blocks[i] = VideoBlock(block)
    return list(blocks)
