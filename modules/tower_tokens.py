"""The tokens of an image tower: the output of its last block.

Shapes: N images, L tokens of an image, C width, D embedding.
"""

from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import nn

from utils.errors import UserError


def embed_with_tokens(
    visual: nn.Module, images: torch.Tensor, is_normed: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 3, H, W) normalised images -> embeddings (N, D) and tokens (N, L, C), the class token first.

    Args:
        is_normed: return tokens after the last norm of the tower, if it is applied to all tokens.

    Raises:
        UserError: the tower has no tokens per frame.
    """
    if hasattr(visual, "time_embedding"):
        raise UserError("network.joint_st: not supported, as there are no tokens of single frames; set it to false")
    if isinstance(visual, TimmModel):
        trunk: Any = visual.trunk
        tokens = trunk.forward_features(images)
        embeddings = visual.head(trunk.forward_head(tokens))
        if tokens.ndim == 4:  # convolutions have channels first, windowed attention last
            first = tokens.shape[1] == trunk.num_features
            tokens = tokens.flatten(2).transpose(1, 2) if first else tokens.flatten(1, 2)
        return embeddings, tokens
    if isinstance(visual, VisionTransformer):
        has_norm = visual.attn_pool is None and not visual.final_ln_after_pool
        source: nn.Module = visual.ln_post if is_normed and has_norm else visual.transformer
    elif isinstance(visual, ModifiedResNet):
        source = visual.layer4
    else:
        raise UserError(f"this image tower does not provide tokens of a frame ({type(visual).__name__})")
    outputs: list[torch.Tensor] = []
    hook = source.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        embeddings = visual(images)
    finally:
        hook.remove()
    (tokens,) = outputs
    return embeddings, tokens.flatten(2).transpose(1, 2) if tokens.ndim == 4 else tokens
