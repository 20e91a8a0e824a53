"""Faster versions of open_clip's layers with fewer passes over memory, and the same parameters, names and results.

On a GPU, training a ViT in bf16 is limited by memory bandwidth. open_clip's layers read and write the hidden tensors of
the MLP nine times for QuickGELU alone, normalise bf16 through two float32 copies, and copy queries, keys and values.

Shapes: N sequences, L tokens, C width, F width of an MLP's hidden tensors, H heads.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from open_clip import transformer
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SHARPNESS = 1.702  # of QuickGELU, x * sigmoid(1.702 x) = silu(1.702 x) / 1.702
AnyModule = TypeVar("AnyModule", bound=nn.Module)


class _QuickGelu(torch.autograd.Function):
    """Saves only x; the derivative is that of silu at 1.702 x."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return F.silu(SHARPNESS * x).div_(SHARPNESS)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, SHARPNESS * x)


class QuickGELU(transformer.QuickGELU):
    """x * sigmoid(1.702 x), of any shape."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if torch.compiler.is_compiling() else _QuickGelu.apply(x)


class _QuickGeluMlp(torch.autograd.Function):
    """(M, C) -> (M, C): a linear layer, QuickGELU, a linear layer.

    The factors of QuickGELU are fused into the matrix products, so that silu is the only pass over the hidden tensor,
    and its derivative the only one in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, w_in: torch.Tensor, b_in: torch.Tensor, w_out: torch.Tensor, b_out: torch.Tensor
    ) -> torch.Tensor:
        sharp = torch.addmm(SHARPNESS * b_in, x, w_in.T, alpha=SHARPNESS)  # (M, F)
        hidden = F.silu(sharp)  # 1.702 times QuickGELU
        for_x, for_w_in, for_b_in, for_w_out, _ = ctx.needs_input_grad
        ctx.save_for_backward(
            x if for_w_in else None,
            w_in if for_x else None,
            sharp if for_x or for_w_in or for_b_in else None,
            hidden if for_w_out else None,
            w_out,
        )
        return torch.addmm(b_out, hidden, w_out.T, alpha=1 / SHARPNESS)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, w_in, sharp, hidden, w_out = ctx.saved_tensors
        for_x, for_w_in, for_b_in, for_w_out, for_b_out = ctx.needs_input_grad
        d_w_out = (gradient.T @ hidden).div_(SHARPNESS) if for_w_out else None
        d_b_out = gradient.sum(dim=0) if for_b_out else None
        if sharp is None:
            return None, None, None, d_w_out, d_b_out
        # The factors before and after silu cancel, so this is the gradient of the unscaled layer output.
        d_hidden = torch.ops.aten.silu_backward(gradient @ w_out, sharp)
        return (
            d_hidden @ w_in if for_x else None,
            d_hidden.T @ x if for_w_in else None,
            d_hidden.sum(dim=0) if for_b_in else None,
            d_w_out,
            d_b_out,
        )


class QuickGeluMlp(nn.Sequential):
    """The MLP of a block, (..., C) -> same, with the layers `c_fc`, `gelu`, `c_proj`."""

    c_fc: nn.Linear
    c_proj: nn.Linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # torch.compile fuses by itself, and forward hooks of the layers must be called.
        if torch.compiler.is_compiling() or self.c_fc._forward_hooks or self.c_proj._forward_hooks:
            return super().forward(x)
        dtype = _computing_dtype(x)
        y = _QuickGeluMlp.apply(
            x.flatten(0, -2).to(dtype),
            self.c_fc.weight.to(dtype),
            self.c_fc.bias.to(dtype),
            self.c_proj.weight.to(dtype),
            self.c_proj.bias.to(dtype),
        )
        return y.unflatten(0, x.shape[:-1])


class _MixedLayerNorm(torch.autograd.Function):
    """Normalisation of x (..., C) in half precision with a float32 weight and bias (C,), in the dtype of x.

    PyTorch's kernels compute in float32 internally, and on a GPU only support a weight with the dtype of x. Rounding
    the weight to bf16 before the kernel can double the error of a tower's gradients, so it is applied afterwards. In
    the backward pass, rounding changes the error by less than the variation between seeds.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
        out, mean, rstd = torch.native_layer_norm(x, weight.shape, None, None, eps)
        ctx.save_for_backward(x, mean, rstd, weight)
        return torch.addcmul(bias, out, weight, out=out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, mean, rstd, weight = ctx.saved_tensors
        weight = weight.to(x.dtype)  # also given as the bias, whose values are not used
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        d_x, d_weight, d_bias = torch.ops.aten.native_layer_norm_backward(
            gradient.contiguous(), x, weight.shape, mean, rstd, weight, weight, [for_x, for_weight, for_bias]
        )
        return d_x if for_x else None, d_weight if for_weight else None, d_bias if for_bias else None, None


class LayerNorm(transformer.LayerNorm):
    """Layer norm without float32 copies of input and output under autocast."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == self.weight.dtype or torch.compiler.is_compiling():
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return _MixedLayerNorm.apply(x, self.weight, self.bias, self.eps)


class SelfAttention(nn.MultiheadAttention):
    """Self-attention without returned weights, (N, L, C) -> same, on views of one projection; otherwise the base class.

    Attributes:
        beside_in_proj: (N, L, C) -> (N, L, 3 C), added to the projection, or None.
    """

    beside_in_proj: Callable[[torch.Tensor], torch.Tensor] | None = None

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See nn.MultiheadAttention. A float `attn_mask` is (L, L) or (N * H, L, L)."""
        if need_weights or key_padding_mask is not None or query is not key or key is not value:
            assert self.beside_in_proj is None
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        qkv = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        if self.beside_in_proj is not None:
            qkv = qkv + self.beside_in_proj(query)
        q, k, v = (part.transpose(1, 2) for part in qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2))
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.unflatten(0, (-1, self.num_heads))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask, self.dropout if self.training else 0.0)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None


class PatchProjection(nn.Conv2d):
    """A patch embedding (convolution without bias with kernel size = stride), (N, 3, H, W) -> (N, C, h, w), as a matrix
    product. cuDNN's weight gradient takes a tenth of a training step of ViT-B/32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = self.kernel_size
        patches = x.to(_computing_dtype(x)).unflatten(3, (-1, columns)).unflatten(2, (-1, rows))
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (N, h, w, 3 * rows * columns)
        return F.linear(patches, self.weight.flatten(1)).permute(0, 3, 1, 2)


def _computing_dtype(x: torch.Tensor) -> torch.dtype:
    """The dtype in which linear layers multiply x."""
    kind = x.device.type
    has_autocast = kind != "meta" and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if has_autocast else x.dtype


FAST_LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    QuickGELU: transformer.QuickGELU,
    LayerNorm: transformer.LayerNorm,
    SelfAttention: nn.MultiheadAttention,
    QuickGeluMlp: nn.Sequential,
    PatchProjection: nn.Conv2d,
}
"""The layers above, and those of open_clip and PyTorch that they replace."""


def use_fast_layers(tower: AnyModule) -> AnyModule:
    """Replace the layers of a tower, and return it. Modules and parameters stay the same objects."""
    for module in tower.modules():
        kind = type(module)
        if kind is transformer.QuickGELU:
            module.__class__ = QuickGELU
        elif kind is transformer.LayerNorm:
            module.__class__ = LayerNorm
        elif isinstance(module, transformer.ResidualAttentionBlock):
            assert module.attn.batch_first
            module.attn.__class__ = SelfAttention
            if isinstance(module.mlp.gelu, transformer.QuickGELU):
                module.mlp.__class__ = QuickGeluMlp
        elif isinstance(module, transformer.VisionTransformer):
            module.conv1.__class__ = PatchProjection
    return tower
