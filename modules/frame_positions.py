"""Learned positions of frames, for another number of frames than they were learned for."""

import torch
from torch.nn import functional as F


def stretched(table: torch.Tensor, num_frames: int) -> torch.Tensor:
    """(T, C) positions as (num_frames, C): linear between neighbours, the first and the last row as they are."""
    if len(table) == num_frames:
        return table
    rows = F.interpolate(table.float().T[None], num_frames, mode="linear", align_corners=True)
    return rows[0].T.to(table.dtype)


def fit_frames(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], name: str, what: str) -> list[str]:
    """Stretch the positions `name` of a checkpoint's `state`, in place, to the frames of a model's `expected`.

    Returns:
        A line that names them as `what`; none where the numbers of frames are the same.
    """
    found, own = len(state[name]), len(expected[name])
    state[name] = stretched(state[name], own)
    return [] if found == own else [f"{what} interpolated from {found} to {own} frames"]
