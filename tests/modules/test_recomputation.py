"""Recomputation in the backward pass of blocks with adapters: the same gradients with less memory."""

import pytest
import torch
from torch.nn import functional as F

from engine.plan import estimate_memory
from modules.adapters import ADAPTERS
from modules.build import build_model, load_clip_model
from modules.recomputation import recomputation, recomputed
from modules.tower_blocks import TowerBlock
from tests.modules.test_adapters import built, moved
from tests.modules.tiny import make_clips
from utils.config import load_config

LARGEST = ["st_adapter", "aim", "lora"]


def test_recomputed_tensors_are_not_saved_and_are_computed_once():
    calls = []

    def double(x):
        calls.append("double")
        return 2 * x

    def gelu(x):
        calls.append("gelu")
        return F.gelu(x)

    x, weight = torch.randn(3, 5, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    found = []
    for again in (False, True):
        calls.clear()
        if again:
            with recomputation():
                y = recomputed(double(x), double, x)
                z = recomputed(gelu(y), gelu, y)
                out = F.linear(z, weight) + (z * z).sum()
        else:
            out = F.linear(gelu(double(x)), weight) + gelu(double(x)).square().sum()
        found.append(torch.autograd.grad(out.square().sum(), [x, weight]))
    assert calls == ["double", "gelu"] * 2  # y for its own gradient and that of z, z for two operations
    torch.testing.assert_close(*found)


def blocks_of(model) -> list[TowerBlock]:
    return [module for module in model.visual.modules() if isinstance(module, TowerBlock)]


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("tower", ["CLIP", "DFN", "EVA-02"])
def test_gradients_are_those_of_keeping_all(tmp_path, tower, adapter):
    """With stochastic depth of the block's own (DFN) or not, whose draws stay the same; in half precision."""
    found = []
    for recomputes in (True, False):
        model = moved(built(tmp_path, adapter, tower)).train()
        assert all(block.recomputes for block in blocks_of(model))
        for block in blocks_of(model):
            block.recomputes = recomputes
        with torch.random.fork_rng(), torch.autocast("cpu", torch.bfloat16):
            torch.manual_seed(5)
            out = model(make_clips(), torch.ones(3, model.embed_dim))
        out.sum().backward()
        found.append([out.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keys", [{"solver_activation_checkpointing": True}, {"solver_recompute": False}])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_blocks_save_all_tensors_if_recomputed_as_a_whole_or_not_at_all(tmp_path, adapter, keys):
    model = built(tmp_path, adapter, **keys)
    assert not any(block.recomputes for block in blocks_of(model))


def test_a_step_of_vit_b_16_takes_less_than_60_percent_of_full_tunings_memory():
    """One clip of 8 frames in float32, as benchmarks/training_step.py measures."""
    totals = {}
    for adapter in ("null", *LARGEST):
        keys = [
            "network.arch=ViT-B/16",
            "network.weights=none",
            "network.sim_header=None",
            f"network.adapter={adapter}",
        ]
        cfg = load_config(None, [*keys, "data.input_size=224"], "predict").config
        with torch.device("meta"):
            model = build_model(cfg, load_clip_model(cfg)).to_empty(device="cpu")
        totals[adapter] = estimate_memory(model, torch.zeros(400, 512), 1, 8, 224, "fp32").total
    shares = {adapter: total / totals["null"] for adapter, total in totals.items()}
    assert max(shares[adapter] for adapter in LARGEST) < 0.6, shares
