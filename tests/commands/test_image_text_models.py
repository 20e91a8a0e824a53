"""The zero-shot recipes of image-text models, end to end, with random weights of their architectures scaled down."""

import json
from functools import partial

import open_clip
import pytest
import timm
import torch
import yaml
from open_clip import factory
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from clip import load_clip
from tests.commands.world import CLASSES, NUM_VAL, REPO, call

SCALE = 16  # widths are divided by this
RECIPES = {path.stem: path for path in sorted((REPO / "configs" / "k400").glob("zero_shot_*.yaml"))}
TRUNKS = {  # widths of the image towers
    "PE-Core-B-16": 768, "PE-Core-L-14-336": 1024, "PE-Core-bigG-14-448": 1536,
    "ViT-B-16-SigLIP2": 768, "ViT-L-16-SigLIP2-384": 1024, "ViT-gopt-16-SigLIP2-384": 1536,
}  # fmt: skip
WORDS = ["<pad>", "<eos>", "<unk>", "a", "video", "of", "person", "riding", "bike", "playing", "guitar", "swimming"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The folder of a tokenizer in the format of Hugging Face."""
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("tokenizer")
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(folder)
    return folder


@pytest.fixture
def scale_down(tmp_path, tokenizer, monkeypatch):
    """A function that replaces a model of open_clip by a small one with the same tags."""
    before = list(factory._MODEL_CONFIG_PATHS)

    def scale(name: str) -> None:
        config = open_clip.get_model_config(name)
        text = config["text_cfg"]
        config["embed_dim"] //= SCALE
        text |= {"width": text["width"] // SCALE, "heads": 2, "layers": 1}
        if "hf_tokenizer_name" in text:
            text |= {"hf_tokenizer_name": str(tokenizer), "vocab_size": len(WORDS)}
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / f"{name}.json").write_text(json.dumps(config))
        smaller = {"embed_dim": TRUNKS[name] // SCALE, "depth": 2, "num_heads": 2}
        monkeypatch.setattr(timm, "create_model", partial(timm.create_model, **smaller))
        open_clip.add_model_config(tmp_path / "models")

    yield scale
    factory._MODEL_CONFIG_PATHS[:] = before
    factory._rescan_model_configs()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_without_a_checkpoint(world, scale_down, tmp_path, recipe):
    config = yaml.safe_load(RECIPES[recipe].read_text())
    own = yaml.safe_load(world.config.read_text())["data"]
    scale_down(config["network"]["arch"])
    config["data"] |= {key: own[key] for key in ("val_root", "val_list", "label_list", "num_classes")}
    config["data"] |= {"input_size": 4 * (14 if "14" in recipe else 16), "batch_size": 4, "workers": 0}
    config["network"]["weights"] = "none"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config))
    cache = f"logging.cache_dir={tmp_path}/cache"
    assert call("test", "--config", tmp_path / "recipe.yaml", "--out", tmp_path / "out", cache) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["num_videos"] == NUM_VAL * len(CLASSES)
    data = summary["config"]["data"]
    assert (data["resize_mode"], data["mean"], data["frame_rule"]) == ("squash", [0.5] * 3, "linspace")
    assert summary["weights"] is None


def test_text_goes_through_the_models_own_tokenizer(scale_down):
    scale_down("ViT-B-16-SigLIP2")
    tokens = load_clip("ViT-B-16-SigLIP2", "none", image_size=64).tokenize(["A video of a person swimming."])
    expected = torch.zeros(1, 64, dtype=torch.int64)  # padded to the model's context; cleaned as its tag says
    expected[0, :6] = torch.tensor([WORDS.index(word) for word in ("a", "video", "of", "a", "person", "swimming")])
    assert torch.equal(tokens, expected)


def test_without_weights_and_config_there_is_nothing_to_test(capsys):
    assert call("test") == 2
    assert "give --weights (a checkpoint) or --config" in capsys.readouterr().err
