"""The rules by which a checkpoint's recipe, a config file and the command line become one config."""

import pytest
import yaml

from utils.config import resolve_config
from utils.errors import UserError
from utils.recipe import CHOICE_KEYS, RECIPE_KEYS, TRAINING_KEYS, WEIGHT_KEYS, Recipe
from utils.schema import Config, dotted_keys

CLASSES = ["a", "b"]


def recipe_of(**network) -> Recipe:
    tree = Config().model_dump()
    tree["network"] |= {"arch": "RN50", "prompt": "trained {}"} | network
    tree["data"] |= {"num_segments": 16, "input_size": 64, "num_classes": 2, "val_list": "own.txt", "val_root": "own"}
    tree["data"] |= {"label_list": "own.csv", "dataset": "something"}
    tree["seed"] = 7
    return Recipe("w.pt", tree, CLASSES)


def config_file(tmp_path, **sections) -> str:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(sections))
    return str(tmp_path / "c.yaml")


OTHER_DATA = {"val_list": "other.txt", "label_list": "other.csv", "num_classes": 3}


def test_without_a_config_everything_comes_from_the_checkpoint():
    cfg, warnings, names = resolve_config(None, [], "test", recipe_of())
    assert (cfg.network.arch, cfg.network.prompt, cfg.seed) == ("RN50", "trained {}", 7)
    assert (cfg.data.num_segments, cfg.data.input_size, cfg.data.val_list) == (16, 64, "own.txt")
    assert names == CLASSES and not warnings


def test_a_config_with_data_alone_describes_other_videos(tmp_path):
    cfg, warnings, names = resolve_config(config_file(tmp_path, data=OTHER_DATA), [], "test", recipe_of())
    assert (cfg.data.val_list, cfg.data.num_classes, cfg.data.val_root) == ("other.txt", 3, "")
    assert (cfg.data.num_segments, cfg.data.input_size, cfg.data.dataset) == (16, 64, "something")
    assert (cfg.network.arch, cfg.network.prompt) == ("RN50", "trained {}")
    assert names is None and not warnings


def test_scale_and_mirrored_classes_are_those_of_the_videos_and_not_of_the_model(tmp_path):
    recipe = recipe_of()
    recipe.tree["data"] |= {"num_classes": 174, "scale": [240, 320], "flip_pairs": [[86, 87]]}
    cfg = resolve_config(None, ["data.num_classes=3"], "test", recipe).config
    assert (cfg.data.scale, cfg.data.flip_pairs) == ([240, 320], [[86, 87]])
    cfg = resolve_config(config_file(tmp_path, data=OTHER_DATA), [], "test", recipe).config
    assert (cfg.data.scale, cfg.data.flip_pairs) == (None, None)


def test_a_config_file_sets_the_text_and_differences_of_the_model_are_a_warning(tmp_path):
    network = {"arch": "ViT-B/32", "sim_header": "None", "prompt": "tested {}", "patch_dropout": 0.5}
    path = config_file(tmp_path, network=network, data={**OTHER_DATA, "num_segments": 8}, seed=3)
    cfg, warnings, _ = resolve_config(path, [], "test", recipe_of())
    assert (cfg.network.arch, cfg.network.sim_header, cfg.data.num_segments) == ("RN50", "Transf", 16)
    assert (cfg.network.prompt, cfg.seed) == ("tested {}", 3)
    (warning,) = warnings
    assert warning == (
        f"{path} differs from w.pt, whose values are used: data.num_segments 16 ({path}: 8), network.arch RN50 "
        f"({path}: ViT-B/32), network.sim_header Transf ({path}: None); override them with key=value"
    )


def test_the_command_line_wins_unless_the_weights_fit_no_other_value():
    cfg, warnings, names = resolve_config(
        None, ["data.num_segments=8", "data.label_list=mine.csv", "network.arch=mine.pt"], "test", recipe_of()
    )
    assert (cfg.data.num_segments, cfg.network.arch, names, warnings) == (8, "mine.pt", None, [])
    resolve_config(None, ["network.sim_header=Transf", "network.arch=RN50"], "test", recipe_of())
    overrides = ["network.sim_header=None", "network.tm=tsm", "network.arch=ViT-B/32"]
    with pytest.raises(UserError) as caught:
        resolve_config(None, overrides, "test", recipe_of())
    assert "command line: network.sim_header=None: w.pt was trained with Transf; remove network.sim_header" in str(
        caught.value
    )
    assert str(caught.value).count("was trained with") == 3


def test_a_checkpoint_without_recipe_needs_a_config(tmp_path):
    nothing = Recipe("w.pt", {}, [])
    with pytest.raises(UserError, match=r"w.pt: contains no config .* --config with network.arch, .* data.input_size"):
        resolve_config(None, ["data.val_list=v.txt"], "predict", nothing)
    path = config_file(tmp_path, data=OTHER_DATA, network={"arch": "ViT-B/16"})
    cfg, warnings, names = resolve_config(path, ["data.input_size=32"], "test", nothing)
    assert (cfg.network.arch, cfg.data.input_size, warnings, names) == ("ViT-B/16", 32, [], None)


def test_files_named_by_the_checkpoint_are_found_or_required(tmp_path, monkeypatch):
    shipped = recipe_of(arch="clip/shapes_clip.pt")
    monkeypatch.chdir(tmp_path)
    assert resolve_config(None, [], "predict", shipped).config.network.arch.endswith("/clip/shapes_clip.pt")
    gone = recipe_of(arch="gone/clip.pt")
    with pytest.raises(UserError, match="w.pt: was trained with network.arch gone/clip.pt, which does not exist"):
        resolve_config(None, [], "predict", gone)
    path = config_file(tmp_path, network={"arch": "mine.pt"})
    assert resolve_config(path, [], "predict", gone).config.network.arch == "mine.pt"
    assert resolve_config(None, ["network.arch=mine.pt"], "predict", gone).config.network.arch == "mine.pt"


def test_a_recipe_of_an_older_or_newer_version():
    older = recipe_of()
    del older.tree["network"]["tm"], older.tree["data"]["dense"]
    older.tree["network"]["unheard"] = 1
    assert resolve_config(None, [], "test", older).config.network.tm is False
    with pytest.raises(UserError, match="w.pt: network.tm: must be"):
        resolve_config(None, [], "test", recipe_of(tm="unheard"))


def test_every_key_of_the_model_belongs_to_checkpoint_or_file():
    network = {key for key in dotted_keys() if key.startswith("network.")}
    assert network <= {*RECIPE_KEYS, *CHOICE_KEYS, *TRAINING_KEYS} and set(WEIGHT_KEYS) <= set(RECIPE_KEYS)
    assert {*RECIPE_KEYS, *CHOICE_KEYS, *TRAINING_KEYS} <= set(dotted_keys())


PIXELS = {
    "input_size": 224,
    "resize_size": 256,
    "resize_mode": "squash",
    "interpolation": "bilinear",
    "mean": [0.5] * 3,
}


def test_preprocessing_comes_from_the_checkpoint_and_resizing_follows_the_input_size(tmp_path):
    trained = recipe_of()
    trained.tree["data"] |= PIXELS
    path = config_file(tmp_path, data={**OTHER_DATA, "resize_mode": "shortest"})
    cfg, warnings, _ = resolve_config(path, ["data.std=[1.0, 1.0, 1.0]"], "test", trained)
    assert {key: getattr(cfg.data, key) for key in PIXELS} == PIXELS and cfg.data.std == [1.0] * 3
    assert "data.resize_mode squash" in warnings[0]
    data = resolve_config(None, ["data.input_size=336"], "test", trained).config.data
    assert (data.input_size, data.resize_size, data.resize_mode) == (336, None, "squash")
    data = resolve_config(None, ["data.input_size=336", "data.resize_size=400"], "test", trained).config.data
    assert (data.input_size, data.resize_size) == (336, 400)


def test_checkpoints_without_preprocessing_keys_use_clips():
    older = recipe_of(arch="ViT-B-16-SigLIP")
    older.tree["data"] = {"input_size": 224, "num_segments": 8}
    data = resolve_config(None, [], "predict", older).config.data
    assert (data.resize_mode, data.resize_size, data.interpolation, data.mean) == ("shortest", 256, "bicubic", None)
