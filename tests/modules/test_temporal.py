"""Additions over time inside the image tower."""

import pytest
import torch
from open_clip.transformer import VisionTransformer

from modules.additions.addition import chosen_additions, owner_of
from modules.additions.shift import shift_frames
from modules.additions.tokenshift import TokenShift
from modules.additions.tokent1d import TokenConv
from modules.additions.tsm import PatchShift
from modules.build import build_model
from modules.build_training import build_trainer
from tests.clip.tiny import RESNET
from tests.modules.tiny import clip_of, make_clips, make_config
from utils.context import RunContext
from utils.errors import UserError


def built(cfg, training: bool = False):
    return build_model(cfg, clip_of(cfg)).train(training)


def embed(model, clips):
    with torch.no_grad():
        return model.encode_frames(clips)


def shifted_by_hand(x: torch.Tensor, num_parts: int) -> torch.Tensor:
    """x: (T, C, ...) of one clip, frame by frame."""
    out, fold = x.clone(), x.shape[1] // num_parts
    for t in range(len(x)):
        out[t, :fold] = x[t + 1, :fold] if t + 1 < len(x) else 0
        out[t, fold : 2 * fold] = x[t - 1, fold : 2 * fold] if t else 0
    return out


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_shifts_are_exact(num_frames):
    x = torch.randn(3 * num_frames, 18, 2, 2)  # 18 channels: eighths of 2
    expected = torch.cat([shifted_by_hand(clip, 8) for clip in x.split(num_frames)])
    assert torch.equal(shift_frames(x, num_frames, 8), expected)


def test_which_tokens_shift():
    tokens = torch.randn(6, 5, 16)
    shift = TokenShift()
    shift.num_frames = 3
    expected = torch.cat([shifted_by_hand(clip, 4) for clip in tokens[:, 0].split(3)])
    assert torch.equal(shift(tokens)[:, 0], expected) and torch.equal(shift(tokens)[:, 1:], tokens[:, 1:])
    shift = PatchShift(slice(1, 5))
    shift.num_frames = 3
    patches = tokens[:, 1:].transpose(1, 2)
    expected = torch.cat([shifted_by_hand(clip, 8) for clip in patches.split(3)]).transpose(1, 2)
    assert torch.equal(shift(tokens)[:, 1:], expected) and torch.equal(shift(tokens)[:, 0], tokens[:, 0])


@pytest.mark.parametrize("width", [16, 18])
def test_tokent1d_starts_as_tokenshift(width):
    tokens = torch.randn(8, 3, width)
    shift, conv = TokenShift(), TokenConv(width)
    shift.num_frames = conv.num_frames = 4
    torch.testing.assert_close(conv(tokens), shift(tokens))


def test_tokent1d_starts_as_tokenshift_in_the_tower(tmp_path):
    by_shift, by_conv = (built(make_config(tmp_path, tm=tm)) for tm in ("tokenshift", "tokent1d"))
    clips = make_clips()
    torch.testing.assert_close(embed(by_conv, clips), embed(by_shift, clips))
    assert not torch.allclose(embed(by_shift, clips), embed(built(make_config(tmp_path)), clips), atol=1e-4)


@pytest.mark.parametrize(
    ("vision", "changes", "new"),
    [
        (None, {"tm": "tsm"}, set()),
        (None, {"tm": "tokenshift"}, set()),
        (None, {"tm": "tokent1d"}, {f"transformer.resblocks.{i}.over_time.weight" for i in range(3)}),
        (None, {"joint_st": True, "sim_header": "None"}, {"time_embedding"}),
        (None, {"drop_out": 0.3, "emb_dropout": 0.1}, set()),
        (RESNET, {"tm": "tsm"}, set()),
    ],
)
def test_clips_own_parameters_keep_names_and_values(tmp_path, vision, changes, new):
    cfg = make_config(tmp_path, vision, **changes)
    clip_model = clip_of(cfg)
    before = {name: value.clone() for name, value in clip_model.visual.state_dict().items()}
    model = build_model(cfg, clip_model)
    after = model.visual.state_dict()
    assert {name for name in after if owner_of(f"visual.{name}") is not None} == new
    assert len(model.additions) == len(chosen_additions(cfg)) >= 1
    assert set(after) == set(before) | new
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("tm", ["tsm", "tokenshift", "tokent1d"])
def test_frames_of_one_clip_meet_and_clips_do_not(tmp_path, tm):
    model = built(make_config(tmp_path, tm=tm, sim_header="None"))
    clips = make_clips()
    changed = clips.clone()
    changed[0, 1] = 255 - changed[0, 1]
    differs = (embed(model, clips) - embed(model, changed)).abs().amax(-1) > 1e-5
    assert differs[0].any() and differs[0, 2] and not differs[1].any()
    # Another number of frames is only another clip length.
    assert embed(model, make_clips(frames=3)).shape == (2, 3, 32)


def test_joint_space_time_is_one_sequence(tmp_path):
    cfg = make_config(tmp_path, joint_st=True, sim_header="None")
    model = built(cfg)
    clips = make_clips()
    video = embed(model, clips)
    assert video.shape == (2, 1, 32) and model.visual.time_embedding.shape == (4, 64)
    # Without time embedding (zero at the start) frames are a set: their order does not show. With it, it does.
    torch.testing.assert_close(embed(model, clips.flip(1)), video, rtol=1e-4, atol=1e-5)
    torch.nn.init.normal_(model.visual.time_embedding)
    assert not torch.allclose(embed(model, clips.flip(1)), embed(model, clips), atol=1e-3)
    with pytest.raises(UserError, match="joint_st: the time embedding has 4 frames, but the clips have 5; set data"):
        embed(model, make_clips(frames=5))


def test_joint_space_time_of_one_frame_is_clip(tmp_path):
    cfg = make_config(tmp_path, joint_st=True, sim_header="None", data_num_segments=1)
    plain = built(make_config(tmp_path, sim_header="None"))
    clips = make_clips(frames=1)
    torch.testing.assert_close(embed(built(cfg), clips), embed(plain, clips), rtol=1e-4, atol=1e-5)


def test_dropout_rates(tmp_path):
    model = built(make_config(tmp_path, drop_out=0.4, emb_dropout=0.25, sim_header="None"), training=True)
    blocks = model.visual.transformer.resblocks
    assert [block.attn.dropout for block in blocks] == pytest.approx([0, 0.2, 0.4])
    assert [block.drop_path.drop_prob for block in blocks] == pytest.approx([0, 0.2, 0.4])
    assert model.visual.emb_dropout.p == 0.25
    clips = make_clips()
    assert not torch.equal(embed(model, clips), embed(model, clips))
    model.eval()
    assert torch.equal(embed(model, clips), embed(model, clips))
    torch.testing.assert_close(embed(model, clips), embed(built(make_config(tmp_path)), clips), rtol=1e-4, atol=1e-5)


def test_stochastic_depth_keeps_the_mean(tmp_path):
    drop_path = built(make_config(tmp_path, drop_out=0.3), training=True).visual.transformer.resblocks[-1].drop_path
    torch.manual_seed(0)
    branch = drop_path(torch.ones(20_000, 2, 2))
    assert branch.mean().item() == pytest.approx(1, abs=0.02)
    assert (branch[:, :1, :1] == branch).all()  # a whole sample at a time
    assert (branch == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("counts", [(2, 1, 3, 1), (1, 1, 23, 1)])
def test_tsm_in_a_resnet(tmp_path, counts):
    """On the input of conv1 of every bottleneck; of every second one in deep networks."""
    model = built(make_config(tmp_path, RESNET | {"layers": counts}, tm="tsm"))
    for i, count in enumerate(counts, 1):
        kinds = [type(block.conv1).__name__ for block in getattr(model.visual, f"layer{i}")]
        step = 2 if counts[2] >= 23 else 1
        assert kinds == ["ShiftedConv2d" if b % step == 0 else "Conv2d" for b in range(count)]


@pytest.mark.parametrize(("changes"), [{"tm": "tsm"}, {"tm": "tokent1d"}, {"joint_st": True, "sim_header": "None"}])
def test_gradients_reach_all_parameters_also_with_checkpointing(tmp_path, changes):
    for more in ({}, {"solver_activation_checkpointing": True}):
        model = built(make_config(tmp_path, **changes, **more), training=True)
        model(make_clips(), torch.randn(3, 32)).logsumexp(-1).sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []
        assert more == {} or model.visual.transformer.grad_checkpointing


@pytest.mark.parametrize("changes", [{"tm": "tokent1d"}, {"joint_st": True, "sim_header": "None"}])
def test_an_addition_trains_in_a_frozen_tower(tmp_path, changes):
    """`fix_video` freezes CLIP's own parameters; gradients pass through them to what was added."""
    model = built(make_config(tmp_path, fix_video=True, **changes), training=True)
    assert model.tower_trains and not model.visual.training
    model(make_clips(), torch.randn(3, 32)).logsumexp(-1).sum().backward()
    with_gradient = {n for n, p in model.visual.named_parameters() if p.grad is not None and p.grad.any()}
    added = {n for n, _ in model.visual.named_parameters() if owner_of(f"visual.{n}")}
    assert with_gradient == added and added
    assert {n for n, p in model.visual.named_parameters() if p.requires_grad} == added


@pytest.mark.parametrize("changes", [{}, {"tm": "tsm"}, {"tm": "tokenshift"}])
def test_no_gradient_passes_through_a_fully_frozen_tower(tmp_path, changes):
    model = built(make_config(tmp_path, fix_video=True, **changes), training=True)
    assert not model.tower_trains and not model.encode_frames(make_clips()).requires_grad


def test_frame_embeddings_are_not_kept_of_a_tower_that_trains(tmp_path):
    cfg = make_config(tmp_path, fix_video=True, tm="tokent1d", data_cached_draws=1)
    with pytest.raises(UserError, match="data.cached_draws: frame embeddings cannot be cached"):
        build_trainer(cfg, built(cfg), torch.randn(3, 32), RunContext())


def test_without_additions_the_tower_is_unchanged(tmp_path):
    cfg = make_config(tmp_path)
    clip_model = clip_of(cfg)
    assert type(clip_model.visual) is VisionTransformer
    assert build_model(cfg, clip_model).visual is clip_model.visual


def test_frames_are_segments_times_their_length(tmp_path, caplog):
    built(make_config(tmp_path, data_num_segments=40, data_seg_length=2))
    assert "is 80 frames: the head's positions of 77 are interpolated" in caplog.text
    joint = built(make_config(tmp_path, data_seg_length=2, joint_st=True, sim_header="None"))
    assert joint.encode_video(make_clips(2, frames=8)).shape == (2, 32)
