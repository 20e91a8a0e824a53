"""Checkpoints of transformers' XCLIPModel under X-CLIP's published names."""

import re

import torch

NAMES = (
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.pre_layernorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_projection\.weight$", "text_projection"),
    (r"^mit\.position_embedding$", "mit.positional_embedding"),
    (r"^mit\.encoder\.layers\.", "mit.resblocks."),
    (r"^prompts_visual_layernorm\.", "prompts_visual_ln."),
    (r"^prompts_visual_projection$", "prompts_visual_proj"),
    (r"^prompts_generator\.layernorm\.", "prompts_generator.norm."),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
TRANSPOSED = ("visual_projection.weight", "text_projection.weight")
PARTS = ("q", "k", "v")


def is_transformers_xclip(state: dict[str, torch.Tensor]) -> bool:
    """Whether a checkpoint has the parameter names of X-CLIP in transformers."""
    return "prompts_visual_projection" in state and any(name.startswith("vision_model.") for name in state)


def from_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of an XCLIPModel with joined query, key and value projections, as in the published code."""
    renamed = {}
    for name, value in state.items():
        if name.endswith(".position_ids"):  # a constant that older versions stored
            continue
        value = value.T if name in TRANSPOSED else value
        for pattern, own in NAMES:
            name = re.sub(pattern, own, name)
        renamed[name] = value
    joined = {}
    for name, value in renamed.items():
        match = re.fullmatch(r"((?!prompts_generator).*attn)\.([qkv])_proj\.(weight|bias)", name)
        if match is None:
            joined[name] = value
        elif match[2] == "q":
            parts = [renamed[f"{match[1]}.{part}_proj.{match[3]}"] for part in PARTS]
            joined[f"{match[1]}.in_proj_{match[3]}"] = torch.cat(parts)
    return joined
