"""Interpolation of learned frame positions to another number of frames."""

import torch
from torch.nn import functional as F


def interpolate_positions(table: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Interpolate (T, C) positions linearly to (num_frames, C); the first and the last row are kept."""
    if len(table) == num_frames:
        return table
    rows = F.interpolate(table.float().T[None], num_frames, mode="linear", align_corners=True)
    return rows[0].T.to(table.dtype)


def fit_frames(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], name: str, what: str) -> list[str]:
    """Interpolate the positions `name` in a checkpoint's `state`, in place, to the frames of a model's `expected`.

    Returns:
        A list with a message about `what`, or empty if the numbers of frames are the same.
    """
    saved, own = len(state[name]), len(expected[name])
    state[name] = interpolate_positions(state[name], own)
    return [] if saved == own else [f"{what} interpolated from {saved} to {own} frames"]
