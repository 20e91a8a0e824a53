"""Shifting channels between neighbouring frames."""

import torch


def shift_frames(x: torch.Tensor, num_frames: int, num_parts: int) -> torch.Tensor:
    """Shift channels between the frames of each clip.

    The first C // num_parts channels get the values of the next frame, the second C // num_parts those of the previous
    frame, with zeros beyond the ends of a clip; the rest are unchanged.

    Args:
        x: (N, C, ...), N = clips * num_frames.
    """
    fold = x.shape[1] // num_parts
    frames = x.unflatten(0, (-1, num_frames))
    zeros = torch.zeros_like(frames[:, :1, :fold])
    after = torch.cat([frames[:, 1:, :fold], zeros], dim=1)
    before = torch.cat([zeros, frames[:, :-1, fold : 2 * fold]], dim=1)
    return torch.cat([after, before, frames[:, :, 2 * fold :]], dim=2).flatten(0, 1)
