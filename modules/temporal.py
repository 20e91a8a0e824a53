"""What happens over time inside the image tower: shifts, temporal convolution, joint space-time attention, dropout.

The additions replace blocks of an open_clip tower by blocks that take its submodules over, under the same names: CLIP's
own parameters keep their names and values. Published sources: TSM (arXiv 1811.08383), token shift (arXiv 2108.02432).

Shapes: B batch, T frames, N = B*T images in order of clip and frame, L tokens (class token first), C channels, H W map.
"""

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn
from torch.nn import functional as F

from utils.errors import UserError

# Which towers can take what. ViT and ResNet are open_clip's own, as in all of OpenAI's models; not its timm towers.
VIT, RESNET = "ViT (ViT-B/32, ViT-L/14, ViT-H-14 ...)", "ResNet (RN50, RN101, RN50x4 ...)"
TAKERS = {
    "tsm": (VIT, RESNET),
    "tokenshift": (VIT,),
    "tokent1d": (VIT,),
    "joint_st": (VIT,),
    "drop_out": (VIT,),
    "emb_dropout": (VIT,),
    "patch_dropout": (VIT,),
}
EVERY_SECOND_FROM = 23  # blocks in layer3 from which TSM shifts every second bottleneck only (RN101, RN50x64)


def shift_frames(x: torch.Tensor, num_frames: int, num_parts: int) -> torch.Tensor:
    """Move channels between neighbouring frames.

    Of the C channels the first C // num_parts take the next frame's values, the second C // num_parts the previous
    frame's, zeros past the ends of a clip; the rest stay.

    Args:
        x: (N, C, ...).
    """
    fold = x.shape[1] // num_parts
    frames = x.unflatten(0, (-1, num_frames))
    zeros = torch.zeros_like(frames[:, :1, :fold])
    after = torch.cat([frames[:, 1:, :fold], zeros], dim=1)
    before = torch.cat([zeros, frames[:, :-1, fold : 2 * fold]], dim=1)
    return torch.cat([after, before, frames[:, :, 2 * fold :]], dim=2).flatten(0, 1)


class PatchShift(nn.Module):
    """`tsm` in a ViT: eighths of the channels of the patch tokens shift; the class token stays. (N, L, C) -> same."""

    num_frames = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = shift_frames(x[:, 1:].transpose(1, 2), self.num_frames, 8).transpose(1, 2)
        return torch.cat([x[:, :1], patches], dim=1)


class TokenShift(nn.Module):
    """`tokenshift`: quarters of the channels of the class token shift; the patches stay. (N, L, C) -> same."""

    num_frames = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([shift_frames(x[:, 0], self.num_frames, 4)[:, None], x[:, 1:]], dim=1)


class TokenConv(nn.Module):
    """`tokent1d`: a depthwise convolution over time, kernel 3, of the class token; starts as the token shift."""

    num_frames = 1

    def __init__(self, width: int):
        super().__init__()
        # Taps on the previous, this and the next frame for each channel.
        weight = torch.zeros(width, 1, 3)
        weight[: width // 4, 0, 2] = 1
        weight[width // 4 : 2 * (width // 4), 0, 0] = 1
        weight[2 * (width // 4) :, 0, 1] = 1
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        token = x[:, 0].unflatten(0, (-1, self.num_frames)).transpose(1, 2)  # (B, C, T)
        token = F.conv1d(token, self.weight, padding=1, groups=token.shape[1])
        return torch.cat([token.transpose(1, 2).reshape(-1, 1, x.shape[2]), x[:, 1:]], dim=1)


class StochasticDepth(nn.Module):
    """Drops a residual branch of a whole sample with probability `rate`, in training; survivors are scaled up."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return branch
        keep = branch.new_empty(branch.shape[0], *[1] * (branch.ndim - 1)).bernoulli_(1 - self.rate)
        return branch * (keep / (1 - self.rate))


class PatchDropout(nn.Module):
    """Leaves out a share of each image's patch tokens, in training; the class token stays. (N, L, C) -> (N, L', C).

    As in FLIP (arXiv 2212.00794). Unlike open_clip's, the draw is made on the device, and nothing waits for it.
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


class VideoBlock(nn.Module):
    """An open_clip residual attention block, its submodules taken over by name, with an addition before its branches.

    Args:
        over_time: applied to the residual stream before attention; None: nothing.
        before_mlp: whether it is applied once more before the MLP, as the class token's additions are.
        rate: attention dropout and stochastic depth.
    """

    def __init__(self, block: ResidualAttentionBlock, over_time: nn.Module | None, before_mlp: bool, rate: float):
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = block.ln_1, block.attn, block.ls_1
        self.ln_2, self.mlp, self.ls_2 = block.ln_2, block.mlp, block.ls_2
        self.over_time = over_time or nn.Identity()
        self.before_mlp = before_mlp
        self.attn.dropout = rate
        self.drop_path = StochasticDepth(rate)

    def forward(
        self, x: torch.Tensor, k_x: None = None, v_x: None = None, attn_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(N, L, C) -> (N, L, C). The other arguments are the ones that open_clip's transformer passes, None here."""
        x = self.over_time(x)
        normed = self.ln_1(x)
        attended = self.attn(normed, normed, normed, need_weights=False, attn_mask=attn_mask)[0]
        x = x + self.drop_path(self.ls_1(attended))
        if self.before_mlp:
            x = self.over_time(x)
        return x + self.drop_path(self.ls_2(self.mlp(self.ln_2(x))))


class VideoViT(nn.Module):
    """An open_clip ViT, its parts taken over by name, with dropout of the embeddings and joint space-time attention.

    `joint_st`: the patches of all T frames, plus a time embedding for each frame, and one class token are one sequence
    of T*P + 1 tokens; the output is one embedding for each clip. The time embedding starts at zero.

    Args:
        num_joint_frames: T with joint space-time attention, else None.
        emb_dropout: dropout of the embeddings before ln_pre.
    """

    def __init__(self, visual: VisionTransformer, num_joint_frames: int | None, emb_dropout: float):
        super().__init__()
        self.conv1, self.patch_dropout, self.ln_pre = visual.conv1, visual.patch_dropout, visual.ln_pre
        self.class_embedding, self.positional_embedding = visual.class_embedding, visual.positional_embedding
        self.transformer, self.ln_post, self.proj = visual.transformer, visual.ln_post, visual.proj
        self.emb_dropout = nn.Dropout(emb_dropout)
        self.num_frames = 1
        if num_joint_frames is None:
            self.time_embedding = None
        else:
            self.time_embedding = nn.Parameter(torch.zeros(num_joint_frames, visual.conv1.out_channels))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.transformer.grad_checkpointing = enable

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, D); (B, D) with joint space-time attention.

        Raises:
            UserError: clips of another length than the time embedding has.
        """
        patches = self.conv1(images).flatten(2).transpose(1, 2) + self.positional_embedding[1:]  # (N, P, C)
        if self.time_embedding is not None:
            if self.num_frames != len(self.time_embedding):
                raise UserError(
                    f"network.joint_st: the time embedding has {len(self.time_embedding)} frames and the clips "
                    f"{self.num_frames}; set data.num_segments x data.seg_length to {len(self.time_embedding)}"
                )
            patches = (patches.unflatten(0, (-1, self.num_frames)) + self.time_embedding[:, None]).flatten(1, 2)
        token = (self.class_embedding + self.positional_embedding[0]).to(patches.dtype)
        x = torch.cat([token.expand(len(patches), 1, -1), patches], dim=1)
        x = self.transformer(self.ln_pre(self.patch_dropout(self.emb_dropout(x))))
        return self.ln_post(x[:, 0]) @ self.proj


class ShiftedConv2d(nn.Conv2d):
    """`tsm` in a ResNet: a bottleneck's conv1, its parameters taken over, on an input of which eighths shift."""

    num_frames = 1

    def __init__(self, conv: nn.Conv2d):
        super().__init__(conv.in_channels, conv.out_channels, conv.kernel_size, bias=False, device="meta")
        self.weight = conv.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(shift_frames(x, self.num_frames, 8))


def add_temporal(
    visual: nn.Module,
    tm: str | bool,
    num_joint_frames: int | None,
    drop_out: float = 0.0,
    emb_dropout: float = 0.0,
    patch_dropout: float = 0.0,
) -> nn.Module:
    """The image tower with additions; as it is where nothing is asked for. Its parameters are shared, not copied.

    Args:
        tm: False, tsm, tokenshift or tokent1d.
        num_joint_frames: T for joint space-time attention, or None.
        drop_out: attention dropout and stochastic depth of the last of L blocks; block i gets drop_out * i / (L - 1).
        emb_dropout: dropout of the embeddings before ln_pre.
        patch_dropout: share of the patches left out in training, others in each frame, after their positions are added
            (FLIP, arXiv 2212.00794).

    Raises:
        UserError: the tower cannot take an addition; the message lists those that can.
    """
    assert not (tm and num_joint_frames), "joint space-time attention leaves no frames to shift"
    asked = {
        "joint_st": num_joint_frames,
        "drop_out": drop_out,
        "emb_dropout": emb_dropout,
        "patch_dropout": patch_dropout,
        **({tm: True} if tm else {}),
    }
    for addition in (name for name, value in asked.items() if value):
        _check_taker(visual, addition)
    if isinstance(visual, ModifiedResNet) and tm:
        _shift_bottlenecks(visual)
    elif tm or drop_out:
        blocks = visual.transformer.resblocks
        width = visual.conv1.out_channels
        for i, block in enumerate(blocks):
            over_time = {"tsm": PatchShift, "tokenshift": TokenShift, "tokent1d": lambda: TokenConv(width)}.get(tm)
            rate = drop_out * i / max(1, len(blocks) - 1)
            blocks[i] = VideoBlock(block, over_time and over_time(), before_mlp=tm != "tsm", rate=rate)
    if patch_dropout:
        visual.patch_dropout = PatchDropout(patch_dropout)
    if num_joint_frames or emb_dropout:
        return VideoViT(visual, num_joint_frames, emb_dropout)
    return visual


def _check_taker(visual: nn.Module, addition: str) -> None:
    if isinstance(visual, VisionTransformer):
        is_plain = all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks)
        takes_token = visual.attn_pool is None and visual.pool_type == "tok"
        kind = VIT if is_plain and takes_token else "a ViT with other blocks or pooling"
    elif isinstance(visual, ModifiedResNet):
        kind = RESNET
    else:
        kind = f"{type(getattr(visual, 'trunk', visual)).__name__} (timm)"
    if kind not in TAKERS[addition]:
        name = f"network.tm: {addition}" if addition in ("tsm", "tokenshift", "tokent1d") else f"network.{addition}"
        raise UserError(
            f"{name}: this image tower, {kind}, cannot take it; those that can: {'; '.join(TAKERS[addition])}"
        )


def _shift_bottlenecks(visual: ModifiedResNet) -> None:
    step = 2 if len(visual.layer3) >= EVERY_SECOND_FROM else 1
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        for block in layer[::step]:
            block.conv1 = ShiftedConv2d(block.conv1)
