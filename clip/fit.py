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
        (old_length, old_width), (new_length, new_width) = state[name].shape, expected[name].shape
        # The first row (class token, or the mean in an attention pool) is unchanged.
        old_side, new_side = round((old_length - 1) ** 0.5), round((new_length - 1) ** 0.5)
        if old_length != new_length and old_width == new_width and old_side**2 == old_length - 1:
            state[name] = resample_abs_pos_embed(state[name][None], [new_side, new_side])[0]
            messages.append(f"position embeddings resized from {old_side}x{old_side} to {new_side}x{new_side}")
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
    differences = []
    for kind, items in (("missing", missing), ("unexpected", unexpected), ("of a different shape", misfits)):
        if items:
            more = ", ..." if len(items) > MAX_NAMED else ""
            differences.append(f"{len(items)} {kind}: {', '.join(items[:MAX_NAMED])}{more}")
    if differences:
        raise UserError(
            f"{source}: the weights do not fit the model; {'; '.join(differences)}; set arch to the architecture of "
            "the weights"
        )
