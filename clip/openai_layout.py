"""Infers the architecture of an OpenAI-format state dict from its shapes."""

from typing import Any

import torch

from utils.errors import UserError

HEAD_WIDTH = 64  # channels of an attention head in every OpenAI model


def config_from_shapes(state: dict[str, torch.Tensor], source: str) -> dict[str, Any]:
    """An open_clip model config (embed_dim, vision_cfg, text_cfg, quick_gelu) for the weights in `state`.

    Args:
        state: OpenAI's names: visual.* of a ViT or a ModifiedResNet, transformer.*, token_embedding.weight, ...

    Raises:
        UserError: the names are not OpenAI's, or the shapes contradict each other.
    """
    if not {"visual.conv1.weight", "token_embedding.weight"} <= state.keys():
        first_names = ", ".join(list(state)[:3])
        raise UserError(
            f"{source}: not in OpenAI's format (no visual.conv1.weight or token_embedding.weight; its names start "
            f"with {first_names}); set arch to the model's name and weights to this file"
        )
    try:
        vision = _vit(state, source) if "visual.proj" in state else _resnet(state, source)
        text_width = state["token_embedding.weight"].shape[1]
        mlp_width = state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
        return {
            "embed_dim": state["text_projection"].shape[1],
            "vision_cfg": vision,
            "text_cfg": {
                "context_length": state["positional_embedding"].shape[0],
                "vocab_size": state["token_embedding.weight"].shape[0],
                "width": text_width,
                "heads": _num_heads(text_width, "text", source),
                "layers": _count(state, "transformer.resblocks."),
                "mlp_ratio": mlp_width / text_width,
            },
            "quick_gelu": True,  # every OpenAI model was trained with it
        }
    except KeyError as error:
        raise UserError(f"{source}: incomplete OpenAI weights: {error.args[0]} is missing") from error


def _vit(state: dict[str, torch.Tensor], source: str) -> dict[str, Any]:
    width, _, patch, _ = state["visual.conv1.weight"].shape
    grid = _grid(state, "visual.positional_embedding", source)
    _num_heads(width, "image", source)
    return {
        "layers": _count(state, "visual.transformer.resblocks."),
        "width": width,
        "head_width": HEAD_WIDTH,
        "patch_size": patch,
        "image_size": patch * grid,
        "mlp_ratio": state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0] / width,
    }


def _resnet(state: dict[str, torch.Tensor], source: str) -> dict[str, Any]:
    return {
        "layers": [_count(state, f"visual.layer{i}.") for i in (1, 2, 3, 4)],
        "width": state["visual.layer1.0.conv1.weight"].shape[0],
        "head_width": HEAD_WIDTH,
        "image_size": 32 * _grid(state, "visual.attnpool.positional_embedding", source),
    }


def _count(state: dict[str, torch.Tensor], prefix: str) -> int:
    """The number of numbered modules whose names begin with `prefix`."""
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def _grid(state: dict[str, torch.Tensor], name: str, source: str) -> int:
    """Side of the square grid of image positions; the first position is that of the class token."""
    positions = state[name].shape[0] - 1
    side = round(positions**0.5)
    if side**2 != positions:
        raise UserError(f"{source}: {name} has {positions} image positions, which is not a square number")
    return side


def _num_heads(width: int, tower: str, source: str) -> int:
    if width % HEAD_WIDTH:
        raise UserError(
            f"{source}: the width of the {tower} tower, {width}, is not a multiple of {HEAD_WIDTH}, the width of a head"
        )
    return width // HEAD_WIDTH
