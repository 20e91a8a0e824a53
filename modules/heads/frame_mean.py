"""`sim_header: None`: the mean over frames."""

import torch

from clip import ClipModel
from modules.heads.head import Head
from utils.schema import Config


class FrameMean(Head):
    """(B, T, D) -> (B, D) float32. No parameters, no order."""

    described = "no temporal head"

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel) -> "FrameMean":
        return cls()

    def over_frames(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.float()
