"""Image towers of any library as a list of residual blocks with hooks.

Shapes: N images, L tokens, C width. The tokens of an image: prefix tokens (class token, registers), the P patches, then
tokens added by an adapter.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.layers import AttentionRope
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from modules.recomputation import recomputation, recompute_output, recomputed

# Kinds of image towers.
VIT = "ViT (ViT-B/32, ViT-L/14, ViT-H-14 ...)"
POOLED_VIT = "ViT with averaged or attention-pooled patches (CLIPA, CoCa)"
TIMM_VIT = "timm's ViT (SigLIP, SigLIP 2 ...)"
EVA = "timm's EVA (PE-Core, EVA-02)"
RESNET = "ResNet (RN50, RN101, RN50x4 ...)"
VITS = (VIT, POOLED_VIT, TIMM_VIT, EVA)

Change = Callable[[torch.Tensor], torch.Tensor]


class TowerBlock(nn.Module):
    """A residual block with hooks. Submodules and parameters of the original block are shared, with the same names.

    Each hook is a list of functions from (N, L, C) to (N, L, C), called in order. Their parameters belong to modules
    that are registered under other names, in the block or elsewhere.

    Attributes:
        before_attention: change the residual stream before attention.
        after_attention: change the output of attention before it is scaled and added to the stream.
        before_mlp: change the stream before the MLP.
        beside_mlp: computed from the input of the MLP and added to its output.
        after_mlp: change the stream at the end of the block.
        drop_path: applied to the output of each branch, after the block's own stochastic depth.
        frames_in_sequence: number of images whose patches form one sequence, all with the same rotary positions.
        recomputes: set by `recompute`.
    """

    norm1: Any  # modules; ClipBlock has other names
    norm2: Any
    mlp: nn.Module

    def __init__(self, block: nn.Module):
        super().__init__()
        for name, child in block.named_children():
            self.add_module(name, child)
        for name, parameter in block.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.before_attention: list[Change] = []
        self.after_attention: list[Change] = []
        self.before_mlp: list[Change] = []
        self.beside_mlp: list[Change] = []
        self.after_mlp: list[Change] = []
        self.drop_path: nn.Module = nn.Identity()
        self.frames_in_sequence = 1
        self.recomputes = False

    def run(self, x: torch.Tensor, context: dict[str, Any]) -> torch.Tensor:
        """(N, L, C) -> (N, L, C).

        Args:
            context: arguments of the attention from the tower: mask, rotary positions.
        """
        if not self.recomputes_now:
            return self._run(x, context)
        with recomputation():
            return self._run(x, context)

    def recompute(self) -> None:
        """Recompute cheap operations in the backward pass instead of saving their outputs (modules.recomputation),
        which saves memory if the weights are frozen. Call it after all adapters were added."""
        self.recomputes = True
        for path in ("attn.out_proj", "attn.proj", "mlp.gelu", "mlp.act"):
            parent, _, name = path.partition(".")
            if (layer := getattr(self.get_submodule(parent), name, None)) is not None:
                layer.register_forward_hook(recompute_output)

    @property
    def recomputes_now(self) -> bool:
        """`recomputes` in a pass with gradients; compilers choose by themselves what to save."""
        return self.recomputes and torch.is_grad_enabled() and not torch.compiler.is_compiling()

    def _run(self, x: torch.Tensor, context: dict[str, Any]) -> torch.Tensor:
        for change in self.before_attention:
            x = change(x)
        z = recomputed(self.attention_input(x), self.attention_input, x)
        branch = self.attend(z, context)
        for change in self.after_attention:
            branch = recomputed(change(branch), change, branch)
        x = self._with_attention(x, branch)
        for change in self.before_mlp:
            x = change(x)
        z = recomputed(self.mlp_input(x), self.mlp_input, x)
        branch = self.scale_mlp(self.mlp_output(z))
        for beside in self.beside_mlp:
            branch = branch + beside(z)
        x = x + self.drop_path(branch)
        for change in self.after_mlp:
            x = change(x)
        return x

    def _with_attention(self, x: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        def add(x: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
            return x + self.drop_path(self.scale_attention(branch))

        depths = [child for name, child in self.named_children() if name.startswith("drop_path")]
        is_random = not all(isinstance(depth, nn.Identity) for depth in depths)
        return add(x, branch) if is_random else recomputed(add(x, branch), add, x, branch)

    def attention_input(self, x: torch.Tensor) -> torch.Tensor:
        """The input of attention: the stream, normalised in pre-norm blocks."""
        return self.norm1(x)

    def attend(self, z: torch.Tensor, context: dict[str, Any]) -> torch.Tensor:
        """Self-attention on `attention_input`; without mask and positions if `context` is empty."""
        raise NotImplementedError

    def scale_attention(self, branch: torch.Tensor) -> torch.Tensor:
        """Apply layer scale and the block's own stochastic depth."""
        raise NotImplementedError

    def mlp_input(self, x: torch.Tensor) -> torch.Tensor:
        """The input of the MLP: the stream, normalised in pre-norm blocks."""
        return self.norm2(x)

    def mlp_output(self, z: torch.Tensor) -> torch.Tensor:
        """The MLP on `mlp_input`, before `scale_mlp`; normalised in post-norm blocks."""
        return self.mlp(z)

    def scale_mlp(self, branch: torch.Tensor) -> torch.Tensor:
        """Apply layer scale and the block's own stochastic depth."""
        raise NotImplementedError

    def set_attention_dropout(self, rate: float) -> None:
        """Set the dropout rate of the attention weights."""
        raise NotImplementedError


class ClipBlock(TowerBlock):
    """open_clip's ResidualAttentionBlock, in image and text towers."""

    ln_1: nn.Module
    attn: nn.MultiheadAttention
    ls_1: nn.Module
    ln_2: nn.Module
    ls_2: nn.Module
    norm1 = property(lambda self: self.ln_1)
    norm2 = property(lambda self: self.ln_2)

    def forward(
        self, x: torch.Tensor, k_x: None = None, v_x: None = None, attn_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(N, L, C) -> (N, L, C), with the arguments of open_clip's transformer."""
        return self.run(x, {} if attn_mask is None else {"attn_mask": attn_mask.to(x.dtype)})

    def get_weight_dtype(self) -> torch.dtype:
        """Required by open_clip for the blocks of text towers."""
        return next(self.mlp.parameters()).dtype

    def attend(self, z: torch.Tensor, context: dict[str, Any]) -> torch.Tensor:
        return self.attn(z, z, z, need_weights=False, **context)[0]

    def scale_attention(self, branch: torch.Tensor) -> torch.Tensor:
        return self.ls_1(branch)

    def scale_mlp(self, branch: torch.Tensor) -> torch.Tensor:
        return self.ls_2(branch)

    def set_attention_dropout(self, rate: float) -> None:
        self.attn.dropout = rate


class TimmBlock(TowerBlock):
    """timm's Block. Tokens after the patches have no rotary position."""

    attn: nn.Module
    ls1: nn.Module
    drop_path1: nn.Module
    ls2: nn.Module
    drop_path2: nn.Module

    def forward(self, x: torch.Tensor, **context: Any) -> torch.Tensor:
        """(N, L, C) -> (N, L, C)."""
        return self.run(x, context)

    def attend(self, z: torch.Tensor, context: dict[str, Any]) -> torch.Tensor:
        rope = context.get("rope")
        if rope is not None:
            assert isinstance(self.attn, (AttentionRope, EvaAttention))
            rope = _repeated(rope, self.frames_in_sequence)
            context = {**context, "rope": _lengthened(rope, z.shape[1] - self.attn.num_prefix_tokens)}
        return self.attn(z, **context)

    def scale_attention(self, branch: torch.Tensor) -> torch.Tensor:
        return self.drop_path1(self.ls1(branch))

    def scale_mlp(self, branch: torch.Tensor) -> torch.Tensor:
        return self.drop_path2(self.ls2(branch))

    def set_attention_dropout(self, rate: float) -> None:
        dropout = self.attn.get_submodule("attn_drop")
        assert isinstance(dropout, nn.Dropout)
        dropout.p = rate


class EvaTowerBlock(TimmBlock):
    """timm's EvaBlock: layer scale by plain parameters, None if it has none."""

    def __init__(self, block: EvaBlock):
        super().__init__(block)
        self.gamma_1, self.gamma_2 = block.gamma_1, block.gamma_2

    def scale_attention(self, branch: torch.Tensor) -> torch.Tensor:
        return self.drop_path1(branch if self.gamma_1 is None else self.gamma_1 * branch)

    def scale_mlp(self, branch: torch.Tensor) -> torch.Tensor:
        return self.drop_path2(branch if self.gamma_2 is None else self.gamma_2 * branch)


class EvaPostNormTowerBlock(TimmBlock):
    """timm's EvaBlockPostNorm: each branch is normalised after its attention or MLP."""

    def attention_input(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def attend(self, z: torch.Tensor, context: dict[str, Any]) -> torch.Tensor:
        return self.norm1(super().attend(z, context))

    def scale_attention(self, branch: torch.Tensor) -> torch.Tensor:
        return self.drop_path1(branch)

    def mlp_input(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def mlp_output(self, z: torch.Tensor) -> torch.Tensor:
        return self.norm2(super().mlp_output(z))

    def scale_mlp(self, branch: torch.Tensor) -> torch.Tensor:
        return self.drop_path2(branch)


def _repeated(rope: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Rotary positions (..., P, 2 E) of the P patches of an image -> (..., T*P, 2 E) for T = `num_frames` images.

    If images have different patches, (B*T, 1, P, 2 E) -> (B, 1, T*P, 2 E).
    """
    if num_frames == 1:
        return rope
    if rope.ndim == 4:
        return rope.unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(2, 3)
    return rope.repeat(*[1] * (rope.ndim - 2), num_frames, 1)


def _lengthened(rope: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """Rotary positions (..., P, 2 E), sines then cosines, padded to `num_tokens` tokens that are not rotated."""
    missing = num_tokens - rope.shape[-2]
    if missing == 0:
        return rope
    half = torch.zeros_like(rope[..., :1, : rope.shape[-1] // 2])
    still = torch.cat([half, half + 1], dim=-1)
    return torch.cat([rope, still.expand(*rope.shape[:-2], missing, -1)], dim=-2)


BLOCKS: dict[type[nn.Module], type[TowerBlock]] = {
    ResidualAttentionBlock: ClipBlock,
    Block: TimmBlock,
    EvaBlock: EvaTowerBlock,
    EvaBlockPostNorm: EvaPostNormTowerBlock,
}
"""Supported block classes."""


def tower_blocks(blocks: nn.Sequential | nn.ModuleList) -> list[TowerBlock]:
    """The blocks of a tower, converted to TowerBlocks in place."""
    taken = [block if isinstance(block, TowerBlock) else BLOCKS[type(block)](block) for block in blocks]
    for i, block in enumerate(taken):
        blocks[i] = block
    return taken


class ImageTower:
    """The image tower as seen by additions and adapters.

    Attributes:
        visual: open_clip's module, which an addition may replace.
        kind: VIT, POOLED_VIT, TIMM_VIT, EVA, RESNET, or another description. The following are for VITS only:
        width: C.
        num_prefix_tokens: number of tokens before the patches: class token, then registers.
        has_class_token: whether the first of them is a class token.
        grid: rows and columns of patches.
    """

    def __init__(self, visual: nn.Module):
        self.visual = visual
        self.kind = kind_of(visual)
        if self.kind not in VITS:
            return
        if isinstance(visual, VisionTransformer):
            self._blocks, self._norm_pre = visual.transformer.resblocks, visual.ln_pre
            self.width, self.grid = visual.conv1.out_channels, visual.grid_size
            self.num_prefix_tokens, self.has_class_token = 1, True
        else:
            trunk: Any = visual.trunk
            self._blocks, self._norm_pre = trunk.blocks, trunk.norm_pre
            self.width, self.grid = trunk.embed_dim, trunk.patch_embed.grid_size
            self.num_prefix_tokens, self.has_class_token = trunk.num_prefix_tokens, trunk.cls_token is not None

    @cached_property
    def blocks(self) -> list[TowerBlock]:
        """All blocks, in order; converted to TowerBlocks at the first access."""
        return tower_blocks(self._blocks)

    @property
    def last_block(self) -> nn.Module:
        """The last block, converted or not."""
        return self._blocks[-1]

    @property
    def patches(self) -> slice:
        """Positions of the patches among the tokens of an image, if none are dropped (`network.patch_dropout`)."""
        return slice(self.num_prefix_tokens, self.num_prefix_tokens + self.grid[0] * self.grid[1])

    def before_norm_pre(self, change: Change, prepend: bool = False) -> None:
        """Apply `change` to the embeddings (N, L, C) with positions, before the norm in front of the first block, if
        any; `prepend`: before earlier changes."""
        self._norm_pre.register_forward_pre_hook(lambda module, inputs: (change(inputs[0]),), prepend=prepend)


def kind_of(visual: nn.Module) -> str:
    """`ImageTower.kind`."""
    if isinstance(visual, ModifiedResNet):
        return RESNET
    if isinstance(visual, VisionTransformer):
        if not _are_known(visual.transformer.resblocks):
            return "a ViT with other blocks"
        return VIT if visual.attn_pool is None and visual.pool_type == "tok" else POOLED_VIT
    trunk = visual.trunk if isinstance(visual, TimmModel) else visual
    # Subclasses may have another forward pass.
    for known, kind in ((TimmVisionTransformer, TIMM_VIT), (Eva, EVA)):
        if type(trunk) is known and _are_known(trunk.blocks):
            return kind
    return f"{type(trunk).__name__} (timm)"


def _are_known(blocks: Any) -> bool:
    return all(type(block) in BLOCKS or isinstance(block, TowerBlock) for block in blocks)
