"""The estimate of the memory of a training step."""

import torch

from datasets.build import train_transform
from datasets.device_pixels import train_pixels
from datasets.transforms import Draw
from engine.plan import STORED_SIZE, _LiveBytes, bytes_ahead, estimate_memory
from modules.build import build_model, load_clip_model
from modules.pixels import with_preprocessing
from tests.modules.tiny import make_config
from utils.config import load_config

KIB = 256  # float32 values


def test_tensors_in_memory_are_counted_once():
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


def test_prefetched_batches_are_counted():
    """As many bytes as the real tensors that are made: the next batch, and all for the one after it."""
    keys = ["data.batch_size=3", "data.num_segments=2", "data.input_size=24"]
    cfgs = {
        on: with_preprocessing(load_config(None, [*keys, f"data.pixels_on={on}"], "predict").config)
        for on in ("cpu", "device")
    }
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    batch = 3 * 2 * 3 * 24 * 24
    assert bytes_ahead(cfgs["cpu"], cpu) == 0 and bytes_ahead(cfgs["cpu"], gpu) == 2 * batch
    with _LiveBytes([]) as live:
        clips = [torch.zeros(2, 3, *STORED_SIZE, dtype=torch.uint8) for _ in range(3)]
        transform = train_transform(cfgs["device"])
        train_pixels(clips, [Draw((0, 0, *transform.resize.size_of(*STORED_SIZE)), (24, 24))] * 3, transform)
    assert bytes_ahead(cfgs["device"], gpu) == batch + live.peak > 2 * batch + sum(clip.numel() for clip in clips)


def test_the_estimate_is_close_to_the_measured_memory_of_a_gpu():
    """ViT-B/16, 64 clips of 8 frames, bf16, on an H100: `peak_bytes` of benchmarks/gpu_check.py."""
    keys = ["network.arch=ViT-B/16", "network.weights=none", "data.input_size=224", "data.num_classes=400"]
    cfg = load_config(None, keys, "predict").config
    with torch.device("meta"):
        model = build_model(cfg, load_clip_model(cfg))
    estimate = estimate_memory(model.to_empty(device="cpu"), torch.zeros(400, 512), 64, 8, 224, "bf16")
    assert 1 <= estimate.total / (30.975 * 2**30) <= 1.03
