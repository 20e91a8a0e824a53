"""Probes of a frozen tower's tokens, alone and in a sweep."""

import math

import numpy as np
import pytest
import torch
from open_clip.timm_model import TimmModel

from modules.build import build_model
from modules.probes.attentive import AttentiveProbe
from modules.probes.probe import ProbeSweep, Setting
from modules.tower_tokens import embed_with_tokens
from tests.clip.tiny import RESNET
from tests.modules.tiny import clip_of, make_clips, make_config
from utils.distributed import Process
from utils.errors import UserError
from utils.metrics import knn_votes
from utils.schema import Config

CPU = torch.device("cpu")
COUNTED = torch.tensor([1.0, 1, 1, 1, 1, 0])
SETTINGS = [Setting(kind, lr, wd) for kind in ("linear", "attentive") for lr in (1e-2, 1e-3) for wd in (0.01, 0.8)]
CFG = Config.model_validate({"data": {"num_classes": 3}, "components": {"attentive": {"depth": 2, "num_heads": 2}}})


def trained(settings):
    sweep = ProbeSweep(CFG, settings, width=8, num_steps=4, process=Process(0, 1, 0, CPU))
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        tokens = torch.randn(5, 6, 8, generator=generator)
        labels = torch.randint(0, 3, (5,), generator=generator)
        losses = sweep.step(torch.cat([tokens, torch.full((1, 6, 8), 9.0)]), labels[[0, 1, 2, 3, 4, 0]], COUNTED)
    return sweep, losses


def test_probes_trained_together_equal_those_trained_separately():
    together, losses = trained(SETTINGS)
    assert len({p.sum().item() for probe in together.probes for p in [probe.classifier.weight]}) == len(SETTINGS)
    for number, setting in enumerate(SETTINGS):
        alone, (loss,) = trained([setting])
        torch.testing.assert_close(losses[number], loss)
        for found, expected in zip(together.probes[number].parameters(), alone.probes[0].parameters(), strict=True):
            torch.testing.assert_close(found, expected)
    tokens = torch.randn(2, 6, 8)
    parts = together.probabilities(tokens).split(3, dim=1)
    torch.testing.assert_close(parts[3], together.probes[3](tokens).softmax(dim=1))


def test_the_learning_rate_falls_to_zero():
    sweep, _ = trained(SETTINGS[:1])
    last = 0.5 * (1 + math.cos(math.pi * 3 / 4))
    assert sweep._optimizers[0].param_groups[0]["lr"] == pytest.approx(last * SETTINGS[0].lr)


def test_deeper_layers_of_the_attentive_probe_are_initialised_smaller():
    torch.manual_seed(0)
    probe = AttentiveProbe(64, 3, depth=4, num_heads=4)
    stds = [probe.cross.mlp.fc2.weight.std(), *(block.mlp.fc2.weight.std() for block in probe.blocks)]
    stds += [probe.blocks[1].attn.proj.weight.std(), AttentiveProbe(64, 3, 1, num_heads=4).cross.mlp.fc2.weight.std()]
    expected = [0.02 / math.sqrt(2 * layer) for layer in (3, 1, 2, 3, 2, 1)]
    torch.testing.assert_close(torch.stack(stds), torch.tensor(expected), rtol=0.1, atol=0)
    with pytest.raises(UserError, match="the token width 40 is not a multiple of 16"):
        AttentiveProbe.build(Config(), 40, 3)


def test_the_tokens_of_a_vit_give_its_embedding(tmp_path):
    cfg = make_config(tmp_path)
    model = build_model(cfg, clip_of(cfg)).eval()
    with torch.no_grad():
        images = model.normalized_images(make_clips())
        _, tokens = embed_with_tokens(model.visual, images)
        torch.testing.assert_close(tokens[:, 0] @ model.visual.proj, model.visual(images))
        _, raw = embed_with_tokens(model.visual, images, is_normed=False)
        torch.testing.assert_close(model.visual.ln_post(raw), tokens)


def test_tokens_of_other_towers(tmp_path):
    cfg = make_config(tmp_path, RESNET)
    model = build_model(cfg, clip_of(cfg)).eval()
    with torch.no_grad():
        _, tokens = embed_with_tokens(model.visual, model.normalized_images(make_clips(size=64)))
        assert tokens.shape == (8, 4, 512)  # a last feature map of 2 x 2
        for name, width in (("test_vit", 64), ("test_convnext", 64)):
            visual = TimmModel(name, 32, image_size=160, pool="avg", proj="linear", pretrained=False).eval()
            _, tokens = embed_with_tokens(visual, torch.randn(2, 3, 160, 160))
            assert tokens.shape[0] == 2 and tokens.shape[2] == width and tokens.ndim == 3
    with pytest.raises(UserError, match="does not provide tokens of a frame"):
        embed_with_tokens(torch.nn.Identity(), torch.zeros(1, 3, 32, 32))


def test_votes_of_the_nearest_neighbours():
    known = np.array([[1, 0], [1, 0.1], [0, 1]], dtype=np.float32)
    votes = knn_votes(known, np.array([0, 0, 2]), np.array([[2, 0], [0, 3]], dtype=np.float32), 4, num_neighbours=2)
    assert votes.shape == (2, 4) and votes.argmax(axis=1).tolist() == [0, 2]
    np.testing.assert_allclose(votes[0, 0], np.exp(1 / 0.07) + np.exp(1 / math.sqrt(1.01) / 0.07), rtol=1e-4)
    assert (votes[0, 1:] == 0).all()
