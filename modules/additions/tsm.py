"""`tm: tsm`: temporal shift module, which shifts eighths of the channels between frames (TSM, arXiv 1811.08383)."""

import torch
from open_clip.modified_resnet import Bottleneck, ModifiedResNet
from torch import nn

from modules.additions.addition import Addition
from modules.additions.shift import shift_frames
from modules.tower_blocks import RESNET, VITS, ImageTower
from utils.schema import Config

EVERY_SECOND_FROM = 23  # number of blocks in layer3 from which only every second bottleneck is shifted (RN101, RN50x64)


class PatchShift(nn.Module):
    """For ViTs: shifts the tokens at the positions `patches`; others are unchanged. (N, L, C) -> same."""

    num_frames = 1

    def __init__(self, patches: slice):
        super().__init__()
        self.patches = patches

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before, after = x[:, : self.patches.start], x[:, self.patches.stop :]
        patches = shift_frames(x[:, self.patches].transpose(1, 2), self.num_frames, 8).transpose(1, 2)
        return torch.cat([before, patches, after], dim=1)


class ShiftedConv2d(nn.Conv2d):
    """For ResNets: conv1 of a bottleneck, with its parameters, applied to the shifted input."""

    num_frames = 1

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv.in_channels, conv.out_channels, 1, bias=False, device="meta")
        self.weight = conv.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(shift_frames(x, self.num_frames, 8))


class TemporalShift(Addition):
    setting = "network.tm: tsm"
    supported_towers = (*VITS, RESNET)
    # The published code wraps a block of a ViT, and a bottleneck's conv1.
    published_names = (
        (r"^(visual\.transformer\.resblocks\.\d+)\.net\.", r"\1."),
        (r"^(visual\.layer\d\.\d+\.conv1)\.net\.", r"\1."),
    )

    @classmethod
    def add(cls, tower: ImageTower, cfg: Config) -> None:
        visual = tower.visual
        if not isinstance(visual, ModifiedResNet):
            for block in tower.blocks:
                block.over_time = PatchShift(tower.patches)
                block.before_attention.append(block.over_time)
            return
        step = 2 if len(visual.layer3) >= EVERY_SECOND_FROM else 1
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            for block in layer[::step]:
                assert isinstance(block, Bottleneck)
                block.conv1 = ShiftedConv2d(block.conv1)
