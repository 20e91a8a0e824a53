"""`scorer: xclip` (X-CLIP, arXiv 2208.02816): class embeddings adapted to the patches of a video by cross-attention.

Shapes: B videos, P patches of a frame, C the tower's width, D embedding, K classes.
"""

import math
from typing import Literal

import torch
from open_clip.transformer import QuickGELU
from torch import nn
from torch.nn import functional as F

from clip import ClipModel
from modules.heads.head import Head
from modules.heads.transf import HEAD_WIDTH
from modules.scorers.scorer import Scale, Scorer
from utils.config_fields import Section, key
from utils.errors import UserError
from utils.metrics import EVAL_LOGIT_SCALE
from utils.schema import Config


class CrossAttention(nn.Module):
    """Queries (B, K, D) attend to (B, P, D); only the output projection has a bias."""

    def __init__(self, width: int):
        super().__init__()
        self.num_heads = max(1, width // HEAD_WIDTH)
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query(x), self.key(patches), self.value(patches))
        )
        return self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class PromptLayer(nn.Module):
    """Class embeddings (B, K, D), normed before cross-attention and before an MLP of 4D with QuickGELU."""

    def __init__(self, width: int):
        super().__init__()
        self.cross_attn = CrossAttention(width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), QuickGELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        x = x + self.cross_attn(self.norm1(x), patches)
        return x + self.mlp(self.norm2(x))


class VideoPrompts(Scorer):
    """The cosine of a video with text + alpha * layers(text, patches), alpha (D,) learned.

    Patches are the output of the tower's last block, after a norm and a C x D matrix, averaged over the frames. A table
    contains the video embedding and these P rows for each view.
    """

    class Settings(Section):
        layers: int = key(2, "layers of cross-attention", "layers", ge=1, le=64)
        alpha: float = key(0.1, "initial factor of the output of the layers")
        average: Literal["probabilities", "logits"] = key(
            "probabilities", "what is averaged over the views of a video; multi-label tests need logits"
        )

    needs_patches = True
    published_names = (
        (r"^prompts_visual_ln\.", "scorer.visual_norm."),
        (r"^prompts_visual_proj$", "scorer.visual_proj"),
        (r"^(prompts_generator\.decoder\.\d+\.cross_attn)\.([qkv])_proj\.", r"\1.\2."),
        (r"\.cross_attn\.q\.", ".cross_attn.query."),
        (r"\.cross_attn\.k\.", ".cross_attn.key."),
        (r"\.cross_attn\.v\.", ".cross_attn.value."),
        (r"\.cross_attn\.proj\.", ".cross_attn.out."),
        (r"^(prompts_generator\.decoder\.\d+)\.norm3\.", r"\1.norm2."),
        (r"^(prompts_generator\.decoder\.\d+)\.mlp\.3\.", r"\1.mlp.2."),  # after a dropout of 0
        (r"^prompts_generator\.decoder\.", "scorer.layers."),
        (r"^prompts_generator\.", "scorer."),
    )

    def __init__(self, settings: Section, tower_width: int, width: int):
        super().__init__(settings)
        self.visual_norm = nn.LayerNorm(tower_width)
        self.visual_proj = nn.Parameter(torch.randn(tower_width, width))
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(PromptLayer(width) for _ in range(self.own_settings.layers))
        self.alpha = nn.Parameter(torch.full((width,), self.own_settings.alpha))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def build(cls, cfg: Config, clip_model: ClipModel, text: torch.Tensor | None) -> "VideoPrompts":
        patches = getattr(clip_model.visual, "class_embedding", None)
        if patches is None:
            raise UserError("network.scorer xclip: supports only CLIP's ViTs (ViT-B/32 ...)")
        if cfg.data.cached_draws or cfg.network.joint_st or cfg.network.patch_dropout:
            raise UserError(
                "network.scorer xclip: needs all patches of each frame; set data.cached_draws and "
                "network.patch_dropout to 0 and network.joint_st to false"
            )
        if cfg.data.multi_label and cls.settings(cfg).average == "probabilities":
            raise UserError(
                "components.xclip.average: probabilities are those of one class per video; set it to logits, or "
                "data.multi_label to false"
            )
        if cfg.solver.compile:
            raise UserError("network.scorer xclip: not supported with solver.compile; set solver.compile=false")
        return cls(cls.settings(cfg), len(patches), clip_model.embed_dim)

    @classmethod
    def restore(cls, settings: Section, state: dict[str, torch.Tensor]) -> "VideoPrompts":
        scorer = cls(settings, *state["visual_proj"].shape)
        scorer.load_state_dict(state)
        return scorer.eval()

    def of_patches(self, head: Head, frames: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        pooled = (self.visual_norm(patches) @ self.visual_proj).float().mean(dim=1)  # (B, P, D)
        return torch.cat([head(frames)[:, None], pooled], dim=1)

    def forward(self, videos: torch.Tensor, classes: torch.Tensor, scale: Scale = EVAL_LOGIT_SCALE) -> torch.Tensor:
        video, patches = videos[:, 0], self.norm(videos[:, 1:])
        text = moved = classes.float().expand(len(videos), *classes.shape)  # (B, K, D)
        for layer in self.layers:
            moved = layer(moved, patches)
        with torch.autocast(videos.device.type, enabled=False):
            text = F.normalize(text + self.alpha * moved.float(), dim=-1)
            return scale * (text @ F.normalize(video.float(), dim=-1)[:, :, None])[..., 0]

    def over_views(self, logits: torch.Tensor) -> torch.Tensor:
        """As in the published code, whose softmax gives the mean of the views' probabilities."""
        if self.own_settings.average == "logits":
            return super().over_views(logits)
        return logits.log_softmax(dim=-1).logsumexp(dim=1) - math.log(logits.shape[1])
