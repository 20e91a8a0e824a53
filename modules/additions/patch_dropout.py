"""`patch_dropout`: a share of the patches left out in training, others in each frame (FLIP, arXiv 2212.00794)."""

from typing import Any

import timm.layers
import torch
from torch import nn

from modules.additions.addition import Addition
from modules.tower_blocks import POOLED_VIT, TIMM_VIT, VIT, ImageTower
from utils.schema import Config


class PatchDropout(nn.Module):
    """Leaves out a share of each image's patch tokens, in training; the class token stays. (N, L, C) -> (N, L', C).

    Unlike open_clip's, the draw is made on the device, and nothing waits for it.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        num_patches = x.shape[1] - 1
        num_kept = max(1, round(num_patches * (1 - self.share)))
        kept = torch.rand(len(x), num_patches, device=x.device).topk(num_kept).indices + 1
        return torch.cat([x[:, :1], x.gather(1, kept[..., None].expand(-1, -1, x.shape[2]))], dim=1)


class PatchDropOut(Addition):
    setting = "network.patch_dropout"

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        share = cfg.network.patch_dropout
        visual: Any = tower.visual  # of either library
        # Where each library has its own, after the positions are added.
        if tower.kind in (VIT, POOLED_VIT):
            visual.patch_dropout = PatchDropout(share)
        elif tower.kind == TIMM_VIT:
            visual.trunk.patch_drop = timm.layers.PatchDropout(share, tower.num_prefix_tokens)
        else:  # rotary positions go with the patches that are kept
            visual.trunk.patch_drop = timm.layers.PatchDropoutWithIndices(share, tower.num_prefix_tokens)
