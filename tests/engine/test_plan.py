"""The estimate of the memory of a training step."""

import torch

from engine.plan import _LiveBytes, estimate_memory
from modules.build import build_model, load_clip_model
from tests.modules.tiny import make_config
from utils.config import load_config

KIB = 256  # float32 values


def test_what_is_alive_at_a_time_is_counted_once():
    weight = torch.zeros(16, KIB)
    with _LiveBytes([weight]) as live:
        a = torch.zeros(4, KIB)
        b = a.view(2, 2, KIB) + weight.view(8, 2, KIB)[0]  # views are not new
        assert live.peak == 8 * 1024
        del a
        c = b * 2
        assert live.peak == 8 * 1024
        d = torch.zeros(3, KIB)
        assert live.peak == 11 * 1024
        del b, c, d
        torch.zeros(2, KIB)
    assert live.peak == 11 * 1024


def test_a_step_peaks_where_the_backward_pass_begins_or_ends(tmp_path):
    """Of many clips with activations, of few with gradients; less where blocks are computed again."""
    totals = {}
    for checkpointing in (False, True):
        cfg = make_config(tmp_path, solver_activation_checkpointing=checkpointing)
        model = build_model(cfg, load_clip_model(cfg))
        trainable = 4 * sum(p.numel() for p in model.parameters())
        for batch in (1, 64, 128):
            found = estimate_memory(model, torch.zeros(3, model.embed_dim), batch, 4, 32, "bf16")
            totals[checkpointing, batch] = found.activations
            assert (found.weights, found.gradients_and_optimizer) == (trainable, 3 * trainable)
    assert totals[False, 128] - totals[False, 64] > 30 * totals[False, 1] > 0
    assert totals[True, 128] < 0.6 * totals[False, 128]


def test_the_estimate_is_near_what_a_gpu_took():
    """ViT-B/16, 64 clips of 8 frames, bf16, on an H100: `peak_bytes` of benchmarks/gpu_check.py."""
    keys = ["network.arch=ViT-B/16", "network.weights=none", "data.input_size=224", "data.num_classes=400"]
    cfg = load_config(None, keys, "predict").config
    with torch.device("meta"):
        model = build_model(cfg, load_clip_model(cfg))
    estimate = estimate_memory(model.to_empty(device="cpu"), torch.zeros(400, 512), 64, 8, 224, "bf16")
    assert 1 <= estimate.total / (30.975 * 2**30) <= 1.03
