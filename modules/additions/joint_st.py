"""`joint_st`, joint space-time attention: the patches of all frames of a clip are one sequence."""

import torch
from open_clip.transformer import Transformer, VisionTransformer
from torch import nn

from modules.additions.addition import Addition
from modules.tower_blocks import ImageTower
from utils.errors import UserError
from utils.schema import Config

NAME = "visual.time_embedding"


class JointViT(nn.Module):
    """An open_clip ViT, its parts taken over by name, that embeds a clip as a whole.

    The patches of all T frames, plus a time embedding for each frame, and one class token are one sequence of T*P + 1
    tokens. The time embedding starts at zero.
    """

    conv1: nn.Conv2d
    patch_dropout: nn.Module
    ln_pre: nn.Module
    transformer: Transformer
    ln_post: nn.Module
    class_embedding: nn.Parameter
    positional_embedding: nn.Parameter
    proj: nn.Parameter

    def __init__(self, visual: VisionTransformer, num_frames: int):
        super().__init__()
        for name, child in visual.named_children():
            self.add_module(name, child)
        for name, parameter in visual.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.time_embedding = nn.Parameter(torch.zeros(num_frames, visual.conv1.out_channels))
        self.grid_size = visual.grid_size
        self.num_frames = num_frames

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.transformer.grad_checkpointing = enable

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B*T, 3, H, W) -> (B, D).

        Raises:
            UserError: clips of another length than the time embedding has.
        """
        if self.num_frames != len(self.time_embedding):
            raise UserError(
                f"network.joint_st: the time embedding has {len(self.time_embedding)} frames and the clips "
                f"{self.num_frames}; set data.num_segments x data.seg_length to {len(self.time_embedding)}"
            )
        patches = self.conv1(images).flatten(2).transpose(1, 2) + self.positional_embedding[1:]  # (B*T, P, C)
        patches = (patches.unflatten(0, (-1, self.num_frames)) + self.time_embedding[:, None]).flatten(1, 2)
        token = (self.class_embedding + self.positional_embedding[0]).to(patches.dtype)
        x = torch.cat([token.expand(len(patches), 1, -1), patches], dim=1)
        x = self.transformer(self.ln_pre(self.patch_dropout(x)))
        return self.ln_post(x[:, 0]) @ self.proj


class JointSpaceTime(Addition):
    setting = "network.joint_st: true"
    new_parameters = rf"^{NAME}$"

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        assert isinstance(tower.visual, VisionTransformer)
        tower.visual = JointViT(tower.visual, cfg.data.num_frames)

    @classmethod
    def fault(cls, state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> str | None:
        if len(state[NAME]) == len(expected[NAME]):
            return None
        return (
            f"was trained with joint_st on {len(state[NAME])} frames; set data.num_segments to that, "
            f"not {len(expected[NAME])}"
        )
