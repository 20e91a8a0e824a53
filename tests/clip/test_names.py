"""OpenAI's names, open_clip's names, and tags."""

import open_clip
import pytest

from clip import load_clip, names
from utils.errors import UserError


def test_openais_names_are_open_clips_models():
    assert names.open_clip_name("ViT-L/14-336px") == "ViT-L-14-336"
    for theirs in names.OPENAI_NAMES.values():
        assert theirs in open_clip.list_models()
        assert "openai" in open_clip.list_pretrained_tags_by_model(theirs)
    assert names.open_clip_name("ViT-B-16-SigLIP") == "ViT-B-16-SigLIP"


def test_a_wrong_name_gets_the_nearest_one():
    with pytest.raises(UserError, match="arch ViT-B/23: .*did you mean ViT-B/32"):
        load_clip("ViT-B/23")


def test_a_wrong_tag_gets_the_models_tags():
    with pytest.raises(
        UserError, match="weights laion9b: neither a tag of ViT-B/32 nor a file; use one of the tags .openai, laion"
    ):
        load_clip("ViT-B/32", "laion9b")


@pytest.mark.parametrize("weights", ["nowhere.pt", "/nowhere/weights", "./nowhere.safetensors"])
def test_a_path_is_treated_as_a_file(weights):
    with pytest.raises(UserError, match="no such weights file"):
        load_clip("ViT-B/32", weights)
    with pytest.raises(UserError, match="no such weights file"):
        load_clip(weights)


def test_without_a_tag_the_preprocessing_is_that_common_to_all_tags():
    grey = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "squash")
    assert names.preprocessing("ViT-B-16-SigLIP", "webli") == names.preprocessing("ViT-B-16-SigLIP") == grey
    assert names.preprocessing("ViT-H-14", "dfn5b").resize_mode == "squash"
    assert names.preprocessing("ViT-H-14") is None
    assert names.Preprocessing() == (names.CLIP_MEAN, names.CLIP_STD, "bicubic", "shortest")
