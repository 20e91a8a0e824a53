"""`sim_header: None`: the mean over frames."""

import torch

from modules.heads.head import Head


class FrameMean(Head):
    """(B, T, D) -> (B, D) float32. No parameters; ignores the order of frames."""

    described = "no temporal head"

    def over_frames(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.float()
