"""Checks that weights fit a model, and resizes position embeddings to another input size."""

import torch
from timm.layers import resample_abs_pos_embed

from utils.errors import UserError

MAX_NAMED = 4  # maximum number of keys named in an error
POSITION_KEYS = ("visual.positional_embedding", "visual.attnpool.positional_embedding")


def fit_positions(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> list[str]:
    """Resize the position embeddings in `state` to the number of positions in `expected`, in place.

    Returns one line per change. Other differences are ignored.
    """
    messages = []
    for name in POSITION_KEYS:
        if name not in state or name not in expected or state[name].ndim != 2:
            continue
        old, new = state[name].shape, expected[name].shape
        is_square = round((old[0] - 1) ** 0.5) ** 2 == old[0] - 1
        if old[0] != new[0] and old[1] == new[1] and is_square:
            sides = [round((n - 1) ** 0.5) for n in (old[0], new[0])]
            # The first row (class token, or the mean in an attention pool) is unchanged.
            state[name] = resample_abs_pos_embed(state[name][None], [sides[1], sides[1]])[0]
            messages.append(f"position embeddings resized from {sides[0]}x{sides[0]} to {sides[1]}x{sides[1]}")
    return messages


def check_fit(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], source: str) -> None:
    """Raise a UserError unless names and shapes are the same; the message lists the first differences."""
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    misfits = [
        f"{name} {tuple(state[name].shape)} in the file, {tuple(expected[name].shape)} in the model"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    faults = [
        f"{len(items)} {kind}: {', '.join(items[:MAX_NAMED])}{', ...' if len(items) > MAX_NAMED else ''}"
        for kind, items in (("missing", missing), ("unexpected", unexpected), ("of a different shape", misfits))
        if items
    ]
    if faults:
        remedy = "set arch to the architecture of the weights"
        raise UserError(f"{source}: the weights do not fit the model; {'; '.join(faults)}; {remedy}")
