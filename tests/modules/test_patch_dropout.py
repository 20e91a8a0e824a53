"""Patches left out in training."""

import torch
from timm.layers import PatchDropout

from modules.build import build_model
from tests.modules.tiny import clip_of, make_clips, make_config


def test_which_tokens_stay():
    tokens = torch.arange(4 * 11 * 2.0).view(4, 11, 2)
    dropout = PatchDropout(0.3)
    torch.manual_seed(0)
    kept = dropout(tokens)
    assert kept.shape == (4, 1 + 7, 2) and torch.equal(kept[:, 0], tokens[:, 0])
    rows = [{tuple(token) for token in image.tolist()} for image in kept[:, 1:]]
    for row, image in zip(rows, tokens[:, 1:].tolist()):
        assert len(row) == 7 and row < {tuple(token) for token in image}  # seven of its own, none twice
    places = [sorted(int(token[0]) // 2 % 11 for token in row) for row in rows]
    assert len({tuple(p) for p in places}) > 1  # others in each image
    assert torch.equal(dropout.eval()(tokens), tokens)


def test_in_the_tower(tmp_path):
    cfg = make_config(tmp_path, patch_dropout=0.5, joint_st=True, sim_header="None")
    model = build_model(cfg, clip_of(cfg)).train()
    seen = []
    model.visual.transformer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    model.encode_video(make_clips())
    model.eval().encode_video(make_clips())
    assert seen[1] - 1 == 2 * (seen[0] - 1)
