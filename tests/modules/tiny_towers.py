"""One small image tower of each family that open_clip has, with random weights that all differ from their start."""

import dataclasses
from collections.abc import Callable

import timm
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from clip import ClipModel
from clip.fast_layers import use_fast_layers
from utils.schema import Config

SIZE, WIDTH, DIM, DEPTH = 32, 32, 24, 3


def open_clip_vit(**changes) -> VisionTransformer:
    sizes = {"image_size": SIZE, "patch_size": 8, "width": WIDTH, "layers": DEPTH, "heads": 2, "mlp_ratio": 2.0}
    return VisionTransformer(**sizes, output_dim=DIM, **changes)


def timm_tower(trunk: nn.Module) -> TimmModel:
    """open_clip's tower for a trunk whose classifier is the projection."""
    visual = TimmModel.__new__(TimmModel)
    nn.Module.__init__(visual)
    visual.trunk, visual.head = trunk, nn.Sequential()
    return visual


def timm_vit(**changes) -> TimmModel:
    sizes = {"img_size": SIZE, "patch_size": 8, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 2, "mlp_ratio": 2.0}
    return timm_tower(TimmVisionTransformer(**sizes, num_classes=DIM, **changes))


def timm_eva(**changes) -> TimmModel:
    sizes = {"img_size": SIZE, "patch_size": 8, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 2, "mlp_ratio": 2.0}
    return timm_tower(Eva(**sizes, num_classes=DIM, **changes))


ROPE = {"use_rot_pos_emb": True, "ref_feat_shape": (4, 4)}
TOWERS: dict[str, Callable[[], nn.Module]] = {
    "CLIP": open_clip_vit,
    "CLIP with layer scale": lambda: open_clip_vit(ls_init_value=0.1),
    "CLIPA": lambda: open_clip_vit(pool_type="avg", no_ln_pre=True, final_ln_after_pool=True),
    "CoCa": lambda: open_clip_vit(attentional_pool=True, attn_pooler_heads=2),
    "SigLIP": lambda: timm_vit(class_token=False, global_pool="map"),
    "DFN": lambda: timm_vit(pre_norm=True, drop_path_rate=0.1),
    "registers": lambda: timm_vit(reg_tokens=2, no_embed_class=True, init_values=0.1),
    "PE-Core": lambda: timm_eva(
        attn_type="rope", use_pre_transformer_norm=True, global_pool="map", rope_grid_indexing="xy", **ROPE
    ),
    "PE-Core G": lambda: timm_eva(
        attn_type="rope", use_pre_transformer_norm=True, global_pool="map", class_token=False, **ROPE
    ),
    "EVA-02": lambda: timm_eva(
        qkv_fused=False, swiglu_mlp=True, scale_mlp=True, init_values=0.1, global_pool="token", **ROPE
    ),
    "EVA-02-E": lambda: timm_eva(use_post_norm=True, global_pool="token"),
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "ResNet": lambda: ModifiedResNet((1, 1, 1, 1), DIM, heads=2, image_size=SIZE, width=8),
    "ConvNeXt": lambda: timm_tower(timm.create_model("test_convnext", num_classes=DIM)),
}
"""Image towers of other kinds."""


def tiny_tower(name: str) -> nn.Module:
    torch.manual_seed(0)
    visual = use_fast_layers((TOWERS | OTHERS)[name]())
    with torch.no_grad():
        for parameter in visual.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return visual.eval()


def with_tower(clip_model: ClipModel, name: str) -> ClipModel:
    """A CLIP model with another image tower."""
    return dataclasses.replace(clip_model, visual=tiny_tower(name), embed_dim=DIM, image_size=SIZE)


def of_tower(cfg: Config) -> Config:
    """A config of tests.modules.tiny for these towers: a mean over frames, which needs no text width."""
    return cfg.model_copy(update={"network": cfg.network.model_copy(update={"sim_header": "None"})})
