"""`joint_st`, joint space-time attention: the patches of all frames of a clip are one sequence."""

from types import MethodType
from typing import Any

import torch
from torch import nn

from modules.additions.addition import Addition
from modules.frame_positions import fit_frames
from modules.tower_blocks import ImageTower
from utils.errors import UserError
from utils.schema import Config

NAME = "visual.time_embedding"


class JointSpaceTime(Addition):
    """The patches of all T frames, plus a time embedding for each frame, and one class token (registers likewise) are
    one sequence of T*P + 1 tokens, from which the tower pools one embedding of the clip. The time embedding starts at
    zero. Rotary positions are those of the patch in its frame."""

    setting = "network.joint_st: true"
    new_parameters = rf"^{NAME}$"
    trains_at_full_rate = False  # as in the published code, where only tokent1d is trained at the full rate

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        visual: Any = tower.visual  # open_clip's or timm's
        num_frames = cfg.data.num_frames
        visual.time_embedding = nn.Parameter(torch.zeros(num_frames, tower.width))
        visual.num_frames, visual.num_prefix_tokens = num_frames, tower.num_prefix_tokens
        # First, so that `emb_dropout` sees the whole sequence.
        tower.before_norm_pre(MethodType(_joined_frames, visual), prepend=True)
        for block in tower.blocks:
            block.frames_in_sequence = num_frames

    @classmethod
    def fit(cls, state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> list[str]:
        return fit_frames(state, expected, NAME, "time embedding of joint_st")


def _joined_frames(visual: Any, x: torch.Tensor) -> torch.Tensor:
    """(B*T, n + P, C) embeddings of images, n prefix tokens first -> (B, n + T*P, C) of clips.

    Raises:
        UserError: the clips and the time embedding have different numbers of frames.
    """
    num_frames, time_embedding = visual.num_frames, visual.time_embedding
    if num_frames != len(time_embedding):
        raise UserError(
            f"network.joint_st: the time embedding has {len(time_embedding)} frames, but the clips have {num_frames}; "
            f"set data.num_segments x data.seg_length to {num_frames} to interpolate it"
        )
    prefix, patches = x.tensor_split([visual.num_prefix_tokens], dim=1)
    patches = patches.unflatten(0, (-1, num_frames)) + time_embedding[:, None]
    return torch.cat([prefix[::num_frames], patches.flatten(1, 2)], dim=1)  # prefix tokens are the same in all frames
