"""The layers that replace open_clip's have the same outputs and gradients."""

import copy

import pytest
import torch
from open_clip import transformer
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from clip.fast_layers import LayerNorm, PatchProjection, QuickGELU, QuickGeluMlp, SelfAttention, use_fast_layers

WIDTH, HEADS = 32, 2


def pair(act_layer=transformer.QuickGELU):
    """open_clip's block and the same with our layers."""
    torch.manual_seed(0)
    block = transformer.ResidualAttentionBlock(WIDTH, HEADS, act_layer=act_layer)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return block, use_fast_layers(copy.deepcopy(block))


def stream(requires_grad=True):
    x = torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(1))
    return x.requires_grad_(requires_grad)


def results(block, x, **options):
    """Output and gradients of a block."""
    out = block(x, **options)
    wanted = [x, *(p for p in block.parameters() if p.requires_grad)]
    return [out, *torch.autograd.grad((out.float() * torch.arange(WIDTH)).sum(), wanted)]


def assert_near(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        assert (one.float() - other.float()).norm() <= tolerance * other.float().norm()


def causal(rows=()):
    return torch.full((*rows, 7, 7), -torch.inf).triu(1)


@pytest.mark.parametrize("mask", [None, causal(), causal((3 * HEADS,))], ids=["none", "causal", "of each head"])
def test_a_block_equals_open_clips(mask):
    own, fast = pair()
    kinds = [type(fast.get_submodule(name)) for name in ("ln_1", "attn", "mlp", "mlp.gelu")]
    assert kinds == [LayerNorm, SelfAttention, QuickGeluMlp, QuickGELU]
    assert {n: p.shape for n, p in fast.named_parameters()} == {n: p.shape for n, p in own.named_parameters()}
    assert_near(results(fast, stream(), attn_mask=mask), results(own, stream(), attn_mask=mask), 1e-6)
    with torch.no_grad():
        assert_near([fast.eval()(stream(), attn_mask=mask)], [own.eval()(stream(), attn_mask=mask)], 1e-6)


def test_another_activation_keeps_its_mlp():
    own, fast = pair(torch.nn.GELU)
    assert type(fast.mlp) is torch.nn.Sequential and type(fast.attn) is SelfAttention
    assert_near(results(fast, stream()), results(own, stream()), 1e-6)


@pytest.mark.parametrize("frozen", [(), ("mlp.c_fc",), ("mlp.c_proj",), ("mlp.c_fc.weight", "ln"), ("mlp",)])
def test_gradients_of_the_mlp_with_frozen_parts(frozen):
    own, fast = (block.double() for block in pair())
    for block in (own, fast):
        for name, parameter in block.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))
    x = stream().double().detach().requires_grad_()
    assert_near(results(fast, x), results(own, x), 1e-12)


def test_gradients_equal_finite_differences():
    x = torch.randn(4, 5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(QuickGELU(), x)
    _, fast = pair()
    assert torch.autograd.gradcheck(fast.double().mlp, stream().double().detach()[0].requires_grad_())


def test_quick_gelu_equals_open_clips():
    x = torch.linspace(-20, 20, 1001)
    torch.testing.assert_close(QuickGELU()(x), transformer.QuickGELU()(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_accurate_as_open_clips(dtype):
    own, fast = pair()
    exact = results(own, stream())
    errors = []
    for block in (own, fast):
        x = stream().detach().to(dtype).requires_grad_()  # as of the first convolution
        with torch.autocast("cpu", dtype):
            found = results(block, x)
        assert found[0].dtype == dtype and all(g.dtype == torch.float32 for g in found[2:])
        errors.append(
            [float((a.detach().float() - b.detach()).norm() / b.detach().norm()) for a, b in zip(found, exact)]
        )
    for theirs_, ours in zip(*errors):
        assert ours <= 1.5 * theirs_ + torch.finfo(dtype).eps


def test_recomputed_in_the_backward_pass():
    own, fast = pair()
    out = checkpoint(fast, stream(), use_reentrant=False)
    out.sum().backward()
    own(stream()).sum().backward()
    assert_near([p.grad for p in fast.parameters()], [p.grad for p in own.parameters()], 1e-6)


def test_traced_on_meta_tensors():
    """torch.compile and torch.export see plain operations; FLOPs are counted without data."""
    own, fast = pair()
    expected, x = own(stream()), stream(False)
    torch.testing.assert_close(torch.compile(fast, backend="aot_eager", fullgraph=True)(x), expected)
    torch.testing.assert_close(torch.export.export(fast, (x,)).module()(x), expected)
    torch.compiler.reset()
    counts = []
    for block in (own, fast):
        with FlopCounterMode(display=False) as counter:
            block.to("meta")(stream(False).to("meta").requires_grad_()).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_patches_are_projected_as_by_a_convolution(precision):
    own = transformer.VisionTransformer((24, 32), 8, WIDTH, 1, HEADS, 2.0, output_dim=8)
    fast = use_fast_layers(copy.deepcopy(own))
    assert type(fast.conv1) is PatchProjection
    images, found = torch.randn(2, 3, 24, 32), []
    for visual in (own, fast):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            patches, out = visual.conv1(images), visual(images)
        assert patches.shape == (2, WIDTH, 3, 4) and patches.dtype == out.dtype == precision
        found.append([patches, out, *torch.autograd.grad(out.float().square().sum(), [visual.conv1.weight])])
    assert_near(*found, 1e-5 if precision == torch.float32 else 0.03)


def test_attention_weights_and_padding_masks_use_the_base_class():
    own, fast = pair()
    for options in ({}, {"need_weights": False, "key_padding_mask": torch.zeros(3, 7, dtype=torch.bool)}):
        found, expected = (block.attn(stream(), stream(), stream(), **options) for block in (fast, own))
        torch.testing.assert_close(found, expected)
