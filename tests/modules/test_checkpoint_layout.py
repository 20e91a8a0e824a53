"""Video checkpoints of every layout can be loaded, or the error names the config keys to set."""

import logging
import re

import pytest
import torch

from modules.build import build_model
from modules.checkpoint_layout import load_video_weights, saved_class_names, saved_config, to_model_state
from tests.clip.tiny import RESNET, VIT, make_clip, state_of
from tests.modules.tiny import clip_of, make_clips, make_config
from utils.errors import UserError


def model_of(folder, vision=None, **changes):
    cfg = make_config(folder, vision, **changes)
    return build_model(cfg, clip_of(cfg, seed=1)).eval()


def other_model(folder, vision=None, **changes):
    """The same with every parameter moved, as after training."""
    model = model_of(folder, vision, **changes)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def published(model, prefix=""):
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    return {"epoch": 29, "model_state_dict": state, "optimizer_state_dict": {}}


def contrastive(model, prefix=""):
    """CLIP's whole state under OpenAI's names, and the head apart."""
    own = model.state_dict()
    state = state_of() | {name: value for name, value in own.items() if not name.startswith("fusion_model.")}
    state["input_resolution"] = torch.tensor(32)
    head = {n.removeprefix("fusion_model."): v for n, v in own.items() if n.startswith("fusion_model.")}
    return {
        "epoch": 29,
        "model_state_dict": {f"{prefix}{name}": value for name, value in state.items()},
        "fusion_model_state_dict": {f"{prefix}{name}": value for name, value in head.items()},
        "optimizer_state_dict": {},
    }


def bare(model, prefix=""):
    return {f"{prefix}{name}": value for name, value in model.state_dict().items()}


def refused(model, raw) -> str:
    with pytest.raises(UserError) as error:
        load_video_weights(model, raw, "w.pt")
    assert str(error.value).startswith("w.pt: ") and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("layout", [published, contrastive, bare])
@pytest.mark.parametrize("head", ["Transf", "None"])
def test_round_trip(tmp_path, layout, prefix, head):
    trained, fresh = other_model(tmp_path, sim_header=head), model_of(tmp_path, sim_header=head)
    load_video_weights(fresh, layout(trained, prefix), "w.pt")
    for name, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
    clips, text = make_clips(), torch.randn(3, 32)
    with torch.no_grad():
        torch.testing.assert_close(fresh(clips, text), trained(clips, text))


def published_tsm(model):
    """The published tsm wraps a bottleneck's conv1, or a ViT's block, and its names show it."""
    raw = published(model)
    wrapped = r"^(visual\.layer\d\.\d\.conv1|visual\.transformer\.resblocks\.\d)\."
    raw["model_state_dict"] = {re.sub(wrapped, r"\1.net.", name): v for name, v in raw["model_state_dict"].items()}
    assert any(".net." in name for name in raw["model_state_dict"])
    return raw


@pytest.mark.parametrize("vision", [None, RESNET])
def test_wrapped_shifts(tmp_path, vision):
    trained, fresh = (make(tmp_path, vision, tm="tsm") for make in (other_model, model_of))
    load_video_weights(fresh, published_tsm(trained), "w.pt")
    for name, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
    message = refused(model_of(tmp_path, vision), published_tsm(trained))
    assert "was trained with network.tm: tsm, but the config has False; set network.tm=tsm" in message


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_published_name_of_tokent1d(tmp_path, prefix):
    trained, fresh = (make(tmp_path, tm="tokent1d") for make in (other_model, model_of))
    raw = published(trained, prefix)
    state = raw["model_state_dict"]
    for name in [n for n in state if n.endswith(".over_time.weight")]:
        state[name.replace(".over_time.", ".control_point.conv.")] = state.pop(name)
    load_video_weights(fresh, raw, "w.pt")
    name = "visual.transformer.resblocks.1.over_time.weight"
    assert torch.equal(fresh.state_dict()[name], trained.state_dict()[name])
    assert "contains the weights of network.tm: tokent1d; set it" in refused(model_of(tmp_path), raw)


def test_an_unused_text_tower_is_ignored_with_a_message(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        load_video_weights(model_of(tmp_path), contrastive(other_model(tmp_path)), "w.pt")
    assert "text tower is not loaded" in caplog.text


def test_resized_positions_are_reported(tmp_path, caplog):
    trained = other_model(tmp_path)
    larger = model_of(tmp_path, data_input_size=64)
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        load_video_weights(larger, published(trained), "w.pt")
    assert "w.pt: position embeddings resized from 4x4 to 8x8" in caplog.text
    with torch.no_grad():
        assert larger(make_clips(size=64), torch.randn(3, 32)).isfinite().all()


@pytest.mark.parametrize("new_classes", [False, True])
def test_heads_that_differ(tmp_path, new_classes):
    with_head, without = (model_of(tmp_path, sim_header=head) for head in ("Transf", "None"))
    assert "contains no temporal head; set network.sim_header to None" in refused(with_head, published(without))
    assert "contains a temporal head; set network.sim_header to Transf" in refused(without, published(with_head))
    raw = published(with_head)
    for name in [n for n in raw["model_state_dict"] if ".resblocks.5." in n and n.startswith("fusion_model")]:
        del raw["model_state_dict"][name]
    message = refused(with_head, raw)
    assert "its temporal head has 5 layers and the config's 6; set network.head_layers to 5" in message


def test_positions_for_other_frames(tmp_path, caplog):
    model = model_of(tmp_path)
    raw = published(model)
    raw["model_state_dict"]["fusion_model.frame_position_embeddings.weight"] = torch.zeros(100, 32)
    assert "positions for 100 frames, not 77" in refused(model, raw)
    joint = model_of(tmp_path, joint_st=True, sim_header="None")
    other = model_of(tmp_path, joint_st=True, sim_header="None", data_num_segments=6)
    table = torch.arange(6.0)[:, None].expand(6, 64)
    with torch.no_grad():
        other.visual.time_embedding.copy_(table)
    load_video_weights(joint, published(other), "w.pt")
    assert "w.pt: time embedding of joint_st interpolated from 6 to 4 frames" in caplog.text
    expected = torch.tensor([0, 5 / 3, 10 / 3, 5])[:, None].expand(4, 64)
    torch.testing.assert_close(joint.visual.time_embedding.detach(), expected)
    assert joint.encode_video(make_clips()).isfinite().all()


def test_another_architecture(tmp_path):
    model = model_of(tmp_path)
    other = model_of(tmp_path, VIT | {"layers": 2})
    message = refused(model, published(other))
    assert "different architecture: its image tower is a ViT with patches of 8, width 64, 2 layers" in message
    assert "3 layers; set network.arch" in message
    resnet = published(model_of(tmp_path, RESNET))
    assert "a ResNet of width 16, 2-1-1-1 blocks" in refused(model, resnet)


def test_additions_that_differ(tmp_path):
    plain, conv = model_of(tmp_path), model_of(tmp_path, tm="tokent1d")
    assert "contains the weights of network.tm: tokent1d; set it" in refused(plain, published(conv))
    assert "does not contain the weights of network.tm: tokent1d; do not set it" in refused(conv, published(plain))


@pytest.mark.parametrize("vision", [None, RESNET])
def test_for_shifts_without_weights_the_saved_config_decides(tmp_path, caplog, vision):
    mean, shifted = model_of(tmp_path, vision), model_of(tmp_path, vision, tm="tsm")
    of_shift = {**published(shifted), "config": "network:\n  tm: tsm\n"}
    of_mean = {**published(mean), "config": "network:\n  tm: false\n"}
    message = refused(mean, of_shift)
    assert "was trained with network.tm: tsm, but the config has False; set network.tm=tsm" in message
    assert "network.tm: False, but the config has tsm; set network.tm=False" in refused(shifted, of_mean)
    load_video_weights(shifted, of_shift, "w.pt")
    load_video_weights(mean, published(shifted), "w.pt")  # a published one does not say
    with caplog.at_level(logging.WARNING):
        load_video_weights(mean, of_shift, "w.pt", new_classes=True)  # a choice
    assert "w.pt: was trained with network.tm: tsm; continuing with False" in caplog.text


def test_one_shift_is_not_another(tmp_path):
    tokens = model_of(tmp_path, tm="tokenshift")
    assert "network.tm: tsm, but the config has tokenshift" in refused(
        tokens, {**published(model_of(tmp_path, tm="tsm")), "config": "network: {tm: tsm}"}
    )


def test_missing_and_surplus_tensors_are_named(tmp_path):
    model = model_of(tmp_path)
    raw = published(model)
    del raw["model_state_dict"]["visual.ln_post.bias"]
    raw["model_state_dict"]["visual.surplus"] = torch.zeros(1)
    message = refused(model, raw)
    assert "1 missing: visual.ln_post.bias" in message and "1 unexpected: visual.surplus" in message


@pytest.mark.parametrize(
    "raw",
    [
        {"epoch": 3},
        {"model_state_dict": {}},
        {"model_state_dict": {"visual.proj": 3}},
        {"model_state_dict": {"head.weight": torch.zeros(1)}},
    ],
)
def test_checkpoints_of_other_programs(tmp_path, raw):
    message = refused(model_of(tmp_path), raw)
    assert "no state dict" in message or "no image tower" in message


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (lambda value: value.to(torch.int8), "int8"),
        (lambda value: value.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda value: value.to(torch.complex64), "complex64"),
        (lambda value: value.to_sparse(), "sparse"),
        (lambda value: value.to("meta"), "float32 without values"),
    ],
)
def test_weights_other_than_plain_floats_are_named(how, kind):
    state = {"visual.proj": torch.ones(2, 2), "visual.positions": torch.arange(3)}
    assert to_model_state({"model_state_dict": state}, "a.pt").keys() == state.keys()
    with pytest.raises(UserError, match=f"a.pt: visual.proj is {kind}; weights must be dense"):
        to_model_state({"model_state_dict": state | {"visual.proj": how(torch.ones(2, 2))}}, "a.pt")


def test_a_config_and_class_names_of_another_kind_are_ignored():
    assert saved_config({"config": "data: [1"}) == saved_config({"config": "1"}) == saved_config({}) == {}
    for names in ("abc", None, [1, 2], 3):
        assert saved_class_names({"class_names": names}) == []
    assert saved_class_names({"class_names": ("a", "b")}) == ["a", "b"]


def test_to_model_state_of_a_whole_clip():
    state = to_model_state({"model_state_dict": dict(make_clip().state_dict())}, "clip.pt")
    assert {name.split(".")[0] for name in state} == {"visual", "text", "logit_scale"}
    assert "text.token_embedding.weight" in state and "visual.conv1.weight" in state
