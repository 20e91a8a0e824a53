"""VideoCLIP: pixels, logits, trained and frozen parameters."""

import pytest
import torch
from torch.nn import functional as F

from clip.names import CLIP_MEAN, CLIP_STD
from modules.build import build_model
from modules.scorers.cosine import scaled_cosine
from tests.clip.tiny import RESNET
from tests.modules.tiny import clip_of, make_clips, make_config


def model_of(cfg):
    return build_model(cfg, clip_of(cfg))


@pytest.mark.parametrize("changes", [{}, {"sim_header": "None"}, {"tm": "tokenshift"}])
def test_uint8_equals_normalised_float(tmp_path, changes):
    model = model_of(make_config(tmp_path, **changes)).eval()
    clips = make_clips()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    with torch.no_grad():
        by_hand = model.encode_video((clips / 255 - mean) / std)
        torch.testing.assert_close(model.encode_video(clips), by_hand, rtol=1e-4, atol=1e-5)


def test_frame_embeddings_are_clips_own(tmp_path):
    cfg = make_config(tmp_path, sim_header="None")
    clip_model = clip_of(cfg)
    model = build_model(cfg, clip_model).eval()
    clips = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        frames = model.encode_frames(clips)
        torch.testing.assert_close(frames[1, 2], clip_model.visual(clips[1, 2:3])[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.encode_video(clips), frames.mean(1))
    assert frames.shape == (2, 4, clip_model.embed_dim)


def test_logits_are_the_temperature_times_the_cosine(tmp_path):
    model = model_of(make_config(tmp_path)).eval()
    clips, text = make_clips(), torch.randn(5, 32) * 7
    with torch.no_grad():
        video = model.encode_video(clips)
        expected = model.logit_scale.exp() * F.cosine_similarity(video[:, None], text[None], dim=-1)
        torch.testing.assert_close(model(clips, text), expected)
        torch.testing.assert_close(scaled_cosine(video, text), expected / model.logit_scale.exp() * 100)


def test_with_labels_each_clip_is_paired_with_the_text_of_its_class(tmp_path):
    model = model_of(make_config(tmp_path)).eval()
    clips, text = make_clips(3), torch.randn(5, 32)
    with torch.no_grad():
        video, rows, scale = model(clips, text, torch.tensor([4, 0, 4]))
        assert torch.equal(rows, text[[4, 0, 4]]) and scale == model.logit_scale.exp()
        torch.testing.assert_close(video, model.encode_video(clips))
        shares = torch.tensor([[0, 0, 0, 0, 1.0], [0.25, 0.75, 0, 0, 0], [0, 0, 1, 0, 0]])
        _, rows, _ = model(clips, text, shares)
        unit = F.normalize(text, dim=-1)
        torch.testing.assert_close(rows, torch.stack([unit[4], 0.25 * unit[0] + 0.75 * unit[1], unit[2]]))


def test_fix_video_keeps_the_tower_and_its_statistics(tmp_path):
    model = model_of(make_config(tmp_path, RESNET, fix_video=True)).train()
    before = {name: value.clone() for name, value in model.visual.state_dict().items()}
    assert any("running_mean" in name for name in before)
    model(make_clips(size=64), torch.randn(3, 32)).sum().backward()
    for name, value in model.visual.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.visual.parameters())
    assert all(p.grad is not None for p in model.fusion_model.parameters() if p.requires_grad)
    # ... which a training tower does not:
    model = model_of(make_config(tmp_path, RESNET)).train()
    model(make_clips(size=64), torch.randn(3, 32))
    assert not torch.equal(model.visual.bn1.running_mean, before["bn1.running_mean"])


def test_names_in_the_state_dict(tmp_path):
    cfg = make_config(tmp_path)
    clip_model = clip_of(cfg)
    visual = {f"visual.{name}" for name in clip_model.visual.state_dict()}
    found = set(build_model(cfg, clip_model).state_dict())
    head = {name for name in found if name.startswith("fusion_model.")}
    assert found == visual | head | {"logit_scale"}
    assert "fusion_model.frame_position_embeddings.weight" in head
    assert "fusion_model.transformer.resblocks.5.attn.in_proj_weight" in head


def test_two_rates(tmp_path):
    """The tower and the temperature at the lower rate; what was added over time, and the head, at the full one."""
    model = model_of(make_config(tmp_path, tm="tokent1d"))
    slow = {name.split(".")[0] for name, _ in model.named_parameters() if model.is_pretrained(name)}
    fast = {name for name, _ in model.named_parameters() if not model.is_pretrained(name)}
    assert slow == {"visual", "logit_scale"}
    assert {name for name in fast if name.startswith("visual.")} == {
        f"visual.transformer.resblocks.{i}.over_time.weight" for i in range(3)
    }


def test_a_model_without_a_text_tower_is_an_error(tmp_path):
    model = model_of(make_config(tmp_path))
    assert model.classifier is None
    with pytest.raises(AssertionError, match="class embeddings are passed in"):
        model(make_clips())
