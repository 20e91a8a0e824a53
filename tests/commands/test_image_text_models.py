"""The zero-shot recipes of image-text models, end to end, with random weights of their architectures scaled down."""

import json

import open_clip
import pytest
import yaml
from open_clip import factory
from open_clip.tokenizer import SimpleTokenizer

from tests.commands.world import CLASSES, NUM_VAL, REPO, call

TEXT = {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
# The trunk of each family with its kind of pooling and projection; the sizes are timm's smallest.
TINY = {
    "PE-Core-B-16": ("vit_pe_core_tiny_patch16_384", 64, None, TEXT),
    "ViT-B-16-SigLIP2": ("test_vit3", 96, "none", {**TEXT, "no_causal_mask": True, "pool_type": "last"}),
}


@pytest.fixture
def tiny_models(tmp_path):
    """The names mean tiny models, as a user registers a model of their own; their tags stay open_clip's."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name, (trunk, width, projection, text) in TINY.items():
        vision = {"image_size": 160 if trunk == "test_vit3" else 384, "timm_model_name": trunk, "timm_pool": "map"}
        config = {"embed_dim": width, "custom_text": True, "vision_cfg": {**vision, "timm_proj": projection}}
        (folder / f"{name}.json").write_text(json.dumps({**config, "text_cfg": text}))
    before = list(factory._MODEL_CONFIG_PATHS)
    open_clip.add_model_config(folder)
    yield
    factory._MODEL_CONFIG_PATHS[:] = before
    factory._rescan_model_configs()


@pytest.mark.parametrize("recipe", ["pe_core_b16", "siglip2_b16"])
def test_a_recipe_runs_without_a_checkpoint(world, tiny_models, tmp_path, monkeypatch, recipe):
    if recipe == "siglip2_b16":  # its own tokenizer is downloaded
        monkeypatch.setattr("clip.load._make_tokenizer", lambda arch, text: SimpleTokenizer(context_length=32))
    config = yaml.safe_load((REPO / f"configs/k400/zero_shot_{recipe}.yaml").read_text())
    own = yaml.safe_load(world.config.read_text())["data"]
    config["data"] |= {key: own[key] for key in ("val_root", "val_list", "label_list", "num_classes")}
    config["data"] |= {"input_size": 160 if "siglip" in recipe else 64, "batch_size": 4, "workers": 0}
    config["network"]["weights"] = "none"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config))
    cache = f"logging.cache_dir={tmp_path}/cache"
    assert call("test", "--config", tmp_path / "recipe.yaml", "--out", tmp_path / "out", cache) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["num_videos"] == NUM_VAL * len(CLASSES)
    data = summary["config"]["data"]
    assert (data["resize_mode"], data["mean"], data["frame_rule"]) == ("squash", [0.5] * 3, "linspace")
    assert summary["weights"] is None


def test_without_weights_and_config_there_is_nothing_to_test(capsys):
    assert call("test") == 2
    assert "give --weights (a checkpoint) or --config" in capsys.readouterr().err
