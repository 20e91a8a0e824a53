"""Channels that move between neighbouring frames."""

import torch


def shift_frames(x: torch.Tensor, num_frames: int, num_parts: int) -> torch.Tensor:
    """Move channels between the frames of each clip.

    Of the C channels the first C // num_parts take the next frame's values, the second C // num_parts the previous
    frame's, zeros past the ends of a clip; the rest stay.

    Args:
        x: (N, C, ...), N = clips * num_frames.
    """
    fold = x.shape[1] // num_parts
    frames = x.unflatten(0, (-1, num_frames))
    zeros = torch.zeros_like(frames[:, :1, :fold])
    after = torch.cat([frames[:, 1:, :fold], zeros], dim=1)
    before = torch.cat([zeros, frames[:, :-1, fold : 2 * fold]], dim=1)
    return torch.cat([after, before, frames[:, :, 2 * fold :]], dim=2).flatten(0, 1)
