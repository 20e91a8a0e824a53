"""`patch_dropout`: drops random patches of each frame in training (FLIP, arXiv 2212.00794)."""

from typing import Any

from timm.layers import PatchDropout, PatchDropoutWithIndices

from modules.additions.addition import Addition
from modules.tower_blocks import POOLED_VIT, TIMM_VIT, VIT, ImageTower
from utils.schema import Config


class PatchDropOut(Addition):
    setting = "network.patch_dropout"

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        share = cfg.network.patch_dropout
        visual: Any = tower.visual  # open_clip's or timm's
        if tower.kind in (VIT, POOLED_VIT):  # open_clip's implementation draws random numbers on the CPU
            visual.patch_dropout = PatchDropout(share, tower.num_prefix_tokens)
            return
        # Rotary positions are those of the remaining patches.
        kind = PatchDropout if tower.kind == TIMM_VIT else PatchDropoutWithIndices
        visual.trunk.patch_drop = kind(share, tower.num_prefix_tokens)
