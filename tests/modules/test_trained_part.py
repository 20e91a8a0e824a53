"""Checkpoints with only trained parameters can be loaded on the same weights; other weights are an error."""

import pytest
import torch

from modules.build import build_model
from modules.checkpoint_layout import load_video_weights
from modules.trained_part import base_of, trained_state
from modules.weight_space import average_checkpoints, mixed_checkpoint
from tests.modules.test_adapters import built, config, embed, moved
from tests.modules.tiny import NAMES, clip_of
from utils.checkpoint import save_checkpoint
from utils.errors import UserError

ADAPTERS = ["st_adapter", "aim", "deep_prompts", "lora", "bitfit"]


def checkpoint_of(folder, adapter, **changes):
    model = moved(built(folder, adapter, **changes))
    cfg = config(folder, adapter, **changes)
    state = {name: value.clone() for name, value in trained_state(model).items()}
    return model, {"model_state_dict": state, "base": base_of(cfg, model)}


@pytest.mark.parametrize("adapter", [*ADAPTERS, None])
def test_it_loads_on_the_same_weights(tmp_path, adapter):
    model, raw = checkpoint_of(tmp_path, adapter, fix_video=adapter is None)
    num_values = sum(value.numel() for value in raw["model_state_dict"].values())
    assert num_values < 0.5 * sum(p.numel() for p in model.visual.parameters())
    fresh = built(tmp_path, adapter)  # in a test `fix_video` is not of the recipe
    load_video_weights(fresh, raw, "w.pt")
    torch.testing.assert_close(embed(fresh), embed(model))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in fresh.state_dict().items())


def test_learned_tokens_of_the_text_leave_the_text_tower_out(tmp_path):
    model, raw = checkpoint_of(tmp_path, "deep_prompts", settings={"text_depth": 2})
    assert set(raw["model_state_dict"]) == {"visual.deep_prompts.tokens", "classifier.prompts", "logit_scale"}
    fresh = built(tmp_path, "deep_prompts", settings={"text_depth": 2})
    load_video_weights(fresh, raw, "w.pt")
    torch.testing.assert_close(fresh.class_embeddings(), model.class_embeddings())


@pytest.mark.parametrize("adapter", ["st_adapter", "bitfit"])
def test_another_base_model_is_a_one_line_error(tmp_path, adapter):
    _, raw = checkpoint_of(tmp_path, adapter)
    other = built(tmp_path, adapter)
    with torch.no_grad():
        other.visual.conv1.weight[0, 0, 0, 0] += 1e-3
    with pytest.raises(
        UserError,
        match="w.pt: contains only trained parameters, for other frozen weights; set network.arch",
    ):
        load_video_weights(other, raw, "w.pt")


def test_another_input_size_keeps_the_base(tmp_path):
    """Position embeddings are resized from the same ones."""
    _, raw = checkpoint_of(tmp_path, "lora")
    load_video_weights(built(tmp_path, "lora", data_input_size=48), raw, "w.pt")


def test_aim_takes_other_numbers_of_frames(tmp_path, caplog):
    _, raw = checkpoint_of(tmp_path, "aim")
    load_video_weights(built(tmp_path, "aim", data_num_segments=8), raw, "w.pt")
    assert "time embedding of adapter aim interpolated from 4 to 8 frames" in caplog.text


def test_another_adapter_is_named(tmp_path):
    _, raw = checkpoint_of(tmp_path, "lora")
    with pytest.raises(
        UserError,
        match="w.pt: (contains|does not contain) the weights of network.adapter: (lora|aim); (do not )?set",
    ):
        load_video_weights(built(tmp_path, "aim"), raw, "w.pt")


def test_averages_and_interpolations_contain_the_trained_parameters(tmp_path):
    (_, first), (_, second) = (checkpoint_of(tmp_path, "st_adapter") for _ in range(2))
    for name, value in second["model_state_dict"].items():
        second["model_state_dict"][name] = value + 1
    for number, raw in enumerate((first, second)):
        save_checkpoint(tmp_path / f"{number}.pt", raw)
    average = average_checkpoints([tmp_path / "0.pt", tmp_path / "1.pt"])
    assert average["base"] == first["base"] and average["model_state_dict"].keys() == first["model_state_dict"].keys()
    for name, value in average["model_state_dict"].items():
        torch.testing.assert_close(value, first["model_state_dict"][name] + 0.5)
    model = built(tmp_path, "st_adapter")
    load_video_weights(model, average, "average.pt")
    mixed = mixed_checkpoint(first, model.state_dict(), alpha=0.5)
    assert mixed["base"] == first["base"] and mixed["model_state_dict"].keys() == first["model_state_dict"].keys()
    second["base"] = {**second["base"], "hash": "0" * 64}
    save_checkpoint(tmp_path / "1.pt", second)
    with pytest.raises(
        UserError, match="1.pt: was trained on other base weights than .*0.pt; average adapters of the same CLIP"
    ):
        average_checkpoints([tmp_path / "0.pt", tmp_path / "1.pt"])


def test_pretrained_classes_are_not_needed(tmp_path):
    """A checkpoint of one run starts another, with new classes."""
    _, raw = checkpoint_of(tmp_path, "aim")
    cfg = config(tmp_path, "aim")
    load_video_weights(build_model(cfg, clip_of(cfg), NAMES[:2]), raw, "w.pt", new_classes=True)
