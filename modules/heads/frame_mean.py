"""`sim_header: None`: the mean over frames."""

import torch
from torch.nn import functional as F

from modules.heads.head import Head
from utils.config_fields import Section, key


class FrameMean(Head):
    """(B, T, D) -> (B, D) float32. No parameters; ignores the order of frames."""

    class Settings(Section):
        normalized: bool = key(False, "divide each frame by its length before the mean, as PE-Core does")

    described = "no temporal head"

    def __init__(self, normalized: bool = False):
        super().__init__()
        self.normalized = normalized

    def over_frames(self, frames: torch.Tensor) -> torch.Tensor:
        frames = frames.float()
        return F.normalize(frames, dim=-1) if self.normalized else frames
