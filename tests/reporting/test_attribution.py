"""Drop-one-frame attribution: against its definition, for every kind of tower and head."""

import pytest
import torch

from modules.build import build_model
from reporting.attribution import drop_one_frame
from tests.modules.tiny import clip_of, make_clips, make_config

T = 4


def model_of(tmp_path, **changes):
    cfg = make_config(tmp_path, **changes)
    torch.manual_seed(0)
    return build_model(cfg, clip_of(cfg)).eval()


def by_definition(model, clip, text, label):
    """The log-odds with and without each frame, one whole clip at a time."""

    def log_odds(frames):
        video = model.encode_video(frames[None])
        cosine = torch.nn.functional.normalize(video, dim=-1) @ torch.nn.functional.normalize(text, dim=-1).T
        share = (100 * cosine.double()).softmax(dim=-1)[0, label]
        return torch.logit(share)

    found = []
    for t in range(len(clip)):
        dropped = clip.clone()
        dropped[t] = clip[t - 1] if t else clip[1]
        found.append(log_odds(clip) - log_odds(dropped))
    return torch.stack(found).float()


@pytest.mark.parametrize(
    "changes",
    [{}, {"sim_header": "None"}, {"tm": "tsm"}, {"tm": "tokent1d"}, {"sim_header": "None", "joint_st": True}],
    ids=str,
)
@torch.no_grad()
def test_it_is_what_the_definition_says(tmp_path, changes):
    model = model_of(tmp_path, **changes)
    clip = make_clips(1, T)[0]
    text = model.encode_video(make_clips(3, T, seed=1))
    text = text + 0.3 * torch.randn(text.shape, generator=torch.Generator().manual_seed(2)) * text.std()
    found = drop_one_frame(model, clip, text, 1, clips_per_forward=2)
    assert found.shape == (T,) and found.dtype == torch.float32 and (found.abs() > 1e-4).any()
    torch.testing.assert_close(found, by_definition(model, clip, text, 1), rtol=1e-2, atol=2e-3)


@torch.no_grad()
def test_the_frame_that_makes_the_class_stands_out(tmp_path):
    """Four frames alike and one of its own kind; the text of the class is that frame's direction."""
    model = model_of(tmp_path, sim_header="None")
    plain, special = make_clips(1, 1, seed=1)[0], make_clips(1, 1, seed=2)[0]
    clip = torch.cat([plain, plain, special, plain])
    a, b = (model.encode_frames(f[None])[0, 0] for f in (plain, special))
    found = drop_one_frame(model, clip, torch.stack([a, b]), label=1)
    assert found.argmax() == 2 and found[2] > 0 and found[:2].abs().max() < 1e-3


@torch.no_grad()
def test_one_frame_or_one_class_leaves_nothing_to_say(tmp_path):
    model = model_of(tmp_path)
    text = torch.randn(3, model.embed_dim)
    assert drop_one_frame(model, make_clips(1, 1)[0], text, 0).tolist() == [0.0]
    assert drop_one_frame(model, make_clips(1, T)[0], text[:1], 0).tolist() == [0.0] * T
