"""Every addition on one small tower of each family that open_clip has."""

import pytest
import torch

from modules.additions import OWN_KEYS, TM
from modules.additions.addition import INSIDE, owner_of
from modules.build import build_model
from modules.tower_blocks import _repeated
from modules.video_clip import VideoCLIP
from tests.modules.tiny import clip_of, make_clips, make_config
from tests.modules.tiny_towers import DEPTH, DIM, OTHERS, SIZE, TOWERS, of_tower, tiny_tower, with_tower
from utils.errors import UserError

WITHOUT_CLASS_TOKEN = ("SigLIP", "PE-Core G")
WITH_CLASS_TOKEN = [name for name in TOWERS if name not in WITHOUT_CLASS_TOKEN]
JOINT = {"joint_st": True}
MIXING = [
    *((name, "tsm") for name in TOWERS),
    *((name, tm) for name in WITH_CLASS_TOKEN for tm in ("tokenshift", "tokent1d")),
]


def built(folder, name: str, training: bool = False, **changes) -> VideoCLIP:
    cfg = of_tower(make_config(folder, **changes))
    return build_model(cfg, with_tower(clip_of(cfg), name)).train(training)


def embed(model: VideoCLIP, clips: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.encode_frames(clips)


@pytest.mark.parametrize(("name", "tm"), MIXING)
def test_frames_of_one_clip_meet_and_clips_do_not(tmp_path, name, tm):
    model = built(tmp_path, name, tm=tm)
    clips = make_clips(size=SIZE)
    changed = clips.clone()
    changed[0, 1] = 255 - changed[0, 1]
    embeddings = embed(model, clips)
    differs = (embeddings - embed(model, changed)).abs().amax(-1) > 1e-5
    assert embeddings.shape == (2, 4, DIM) and differs[0, :3].all() and not differs[1].any()
    assert embed(model, make_clips(frames=3, size=SIZE)).shape == (2, 3, DIM)


@pytest.mark.parametrize("name", WITH_CLASS_TOKEN)
def test_tokent1d_starts_as_tokenshift(tmp_path, name):
    by_shift, by_conv = (built(tmp_path, name, tm=tm) for tm in ("tokenshift", "tokent1d"))
    clips = make_clips(size=SIZE)
    torch.testing.assert_close(embed(by_conv, clips), embed(by_shift, clips))
    new = {n for n, _ in by_conv.named_parameters() if owner_of(n)}
    assert len(new) == DEPTH and set(by_conv.state_dict()) - set(by_shift.state_dict()) == new


def refusal(name: str, addition: str) -> str | None:
    """The error of an addition or adapter for towers that it does not support; None if it supports all."""
    if name in OTHERS and (name, addition) != ("ResNet", "tsm"):
        return f"not supported by this image tower, {name} .*; supported are ViT "
    if name in WITHOUT_CLASS_TOKEN and addition in ("tokenshift", "tokent1d", "message"):
        return "needs a class token, which this image tower, .*, does not have; use network.tm: tsm"
    return None


@pytest.mark.parametrize("addition", INSIDE)
def test_every_tower_supports_it_or_refuses_it_in_one_sentence(tmp_path, addition):
    key = addition if addition in OWN_KEYS else "tm" if addition in TM else "adapter"
    changes = {key: {"joint_st": True}.get(addition, 0.5) if key == addition else addition}
    cfg = of_tower(make_config(tmp_path, **changes))
    cfg = cfg.model_copy(update={"components": {"deep_prompts": {"text_depth": 0}}})
    clip_model, clips = clip_of(cfg), make_clips(size=SIZE)
    for name in (*TOWERS, *OTHERS):
        expected = refusal(name, addition)
        if expected is None:
            model = build_model(cfg, with_tower(clip_model, name)).eval()
            assert embed(model, clips).isfinite().all(), name
        else:
            with pytest.raises(UserError, match=rf"^network\.[\w: ]*{addition}.*: {expected}[^\n]*$"):
                build_model(cfg, with_tower(clip_model, name))


@pytest.mark.parametrize("name", TOWERS)
def test_joint_space_time_of_one_frame_is_the_pretrained_tower(tmp_path, name):
    model = built(tmp_path, name, **JOINT, data_num_segments=1)
    clips = make_clips(frames=1, size=SIZE)
    torch.testing.assert_close(embed(model, clips), embed(built(tmp_path, name), clips), rtol=1e-5, atol=1e-5)
    names = set(tiny_tower(name).state_dict())
    assert set(model.visual.state_dict()) == names | {"time_embedding"}


@pytest.mark.parametrize("name", TOWERS)
def test_joint_space_time_is_one_sequence(tmp_path, name):
    """Without time embedding, zero at the start, the order of the frames does not show; with it, it does."""
    model = built(tmp_path, name, **JOINT)
    clips = make_clips(size=SIZE)
    video = embed(model, clips)
    assert video.shape == (2, 1, DIM)
    torch.testing.assert_close(embed(model, clips.flip(1)), video, rtol=1e-4, atol=1e-5)
    changed = clips.clone()
    changed[0, 1] = 255 - changed[0, 1]
    assert ((embed(model, changed) - video).abs().amax(-1) > 1e-4).flatten().tolist() == [True, False]
    torch.nn.init.normal_(model.visual.time_embedding)
    assert not torch.allclose(embed(model, clips.flip(1)), embed(model, clips), atol=1e-4)


def test_joint_space_time_of_equal_frames_is_one_frame_without_a_class_token(tmp_path):
    """Attention to each of two equal patches is half of that to one: attention pooling is kept."""
    clips = make_clips(frames=1, size=SIZE)
    two = embed(built(tmp_path, "SigLIP", **JOINT, data_num_segments=2), clips.expand(-1, 2, -1, -1, -1))
    torch.testing.assert_close(two, embed(built(tmp_path, "SigLIP"), clips), rtol=1e-4, atol=1e-5)


def test_rotary_positions_are_those_of_the_place_in_each_frame():
    rope = torch.randn(5, 8)
    assert torch.equal(_repeated(rope, 3), torch.cat([rope] * 3))
    kept = torch.randn(6, 1, 5, 8)  # two clips of three frames, each with patches of its own
    together = _repeated(kept, 3)
    assert together.shape == (2, 1, 15, 8) and torch.equal(together[1, 0, 5:10], kept[4, 0])


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("changes", [{}, JOINT])
def test_dropout_is_applied_only_in_training(tmp_path, name, changes):
    """The published rates of `drop_out` rise from block to block; each of the three changes what training sees."""
    clips = make_clips(size=SIZE)
    expected = embed(built(tmp_path, name, **changes), clips)
    for dropout in ("drop_out", "emb_dropout", "patch_dropout"):
        model = built(tmp_path, name, **{dropout: 0.5}, **changes)
        torch.testing.assert_close(embed(model, clips), expected, rtol=1e-5, atol=1e-5)
        model.train()
        model.tower_trains = True
        first, second = embed(model, clips), embed(model, clips)
        assert first.isfinite().all() and not torch.allclose(first, second, atol=1e-5), dropout


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("changes", [{"tm": "tsm"}, JOINT, {**JOINT, "patch_dropout": 0.5}])
def test_gradients_reach_the_addition_also_with_checkpointing(tmp_path, name, changes):
    model = built(tmp_path, name, training=True, **changes, solver_activation_checkpointing=True)
    model(make_clips(size=SIZE), torch.randn(3, DIM)).logsumexp(-1).sum().backward()
    without = {n for n, p in model.visual.named_parameters() if p.grad is None}
    assert without == set()
