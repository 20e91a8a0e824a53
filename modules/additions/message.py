"""`tm: message`: X-CLIP's cross-frame attention by message tokens (arXiv 2208.02816).

Shapes: N images, B clips of T frames each, L tokens, C width.
"""

from functools import partial

import torch
from torch import nn

from clip.fast_layers import SelfAttention
from modules.additions.addition import Addition
from modules.heads.transf import HEAD_WIDTH
from modules.tower_blocks import ImageTower, TowerBlock
from utils.schema import Config


class MessageAttention(nn.Module):
    """A message token per frame, projected from its class token, attends to those of the other frames of the clip.

    It is appended to the tokens of its frame for attention, and dropped afterwards.
    """

    num_frames = 1

    def __init__(self, width: int):
        super().__init__()
        self.fc, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.attn = SelfAttention(width, max(1, width // HEAD_WIDTH), batch_first=True)

    def append(self, block: TowerBlock, x: torch.Tensor) -> torch.Tensor:
        """(N, L, C) -> (N, L + 1, C). The block's stochastic depth is read now, as it may be added later."""
        message = self.fc(x[:, 0]).unflatten(0, (-1, self.num_frames))  # (B, T, C)
        z = self.norm(message)
        message = message + block.drop_path(self.attn(z, z, z, need_weights=False)[0])
        return torch.cat([x, message.flatten(0, 1)[:, None].to(x.dtype)], dim=1)

    def drop(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :-1]


class CrossFrameMessages(Addition):
    """Randomly initialised, so the initial tower differs from CLIP's."""

    setting = "network.tm: message"
    needs_class_token = True
    new_parameters = r"^visual\.(transformer\.resblocks|trunk\.blocks)\.\d+\.message\."
    published_names = (
        (r"^(visual\.transformer\.resblocks\.\d+)\.message_fc\.", r"\1.message.fc."),
        (r"^(visual\.transformer\.resblocks\.\d+)\.message_ln\.", r"\1.message.norm."),
        (r"^(visual\.transformer\.resblocks\.\d+)\.message_attn\.", r"\1.message.attn."),
    )

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        for block in tower.blocks:
            block.message = message = MessageAttention(tower.width)
            block.before_attention.append(partial(message.append, block))
            block.before_mlp.insert(0, message.drop)
