"""CLIP models from every kind of weights file have the outputs of open_clip's."""

import logging

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from clip import load_clip
from tests.clip.tiny import EMBED_DIM, RESNET, VIT, make_clip, save_archive, save_state, state_of
from utils.errors import UserError


@pytest.fixture(scope="module")
def original():
    return make_clip()


def assert_same_towers(clip_model, original):
    images, tokens = torch.rand(2, 3, 32, 32), torch.tensor([[49406, 320, 49407] + [0] * 74])
    with torch.no_grad():
        torch.testing.assert_close(clip_model.visual(images), original.encode_image(images))
        torch.testing.assert_close(clip_model.text(tokens), original.encode_text(tokens))
    assert clip_model.logit_scale == original.logit_scale.detach() and clip_model.logit_scale.shape == ()


def write_archive(path, original):
    save_archive(path, make_clip())


def write_state(path, original):
    torch.save(original.state_dict(), path)


def write_half(path, original):
    state = {k: v.half() if v.is_floating_point() else v for k, v in original.state_dict().items()}
    torch.save(state, path)


def write_checkpoint(path, original):
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in original.state_dict().items()}}, path)


def write_safetensors(path, original):
    save_file({k: v.contiguous() for k, v in original.state_dict().items()}, path)


@pytest.mark.parametrize("write", [write_archive, write_state, write_half, write_checkpoint, write_safetensors])
def test_every_kind_of_file_gives_the_same_towers(tmp_path, original, write):
    path = tmp_path / "weights.any"  # recognised by content, not by suffix
    write(path, original)
    clip_model = load_clip(str(path))
    assert_same_towers(clip_model, original)
    assert all(p.dtype == torch.float32 for p in clip_model.visual.parameters())
    assert not clip_model.visual.training and not clip_model.text.training


@pytest.mark.parametrize("vision", [VIT, VIT | {"patch_size": 16, "layers": 1, "width": 128}, RESNET])
def test_the_architecture_is_inferred_from_the_shapes(tmp_path, vision):
    clip_model = load_clip(str(save_state(tmp_path / "a.pt", vision)))
    assert (clip_model.embed_dim, clip_model.text_width, clip_model.image_size) == (EMBED_DIM, 64, vision["image_size"])
    images = torch.rand(2, 3, vision["image_size"], vision["image_size"])
    with torch.no_grad():
        torch.testing.assert_close(clip_model.visual(images), make_clip(vision).encode_image(images))


def test_parameters_keep_openais_names(tmp_path):
    names = {n for n in state_of() if n.startswith("visual.")}
    clip_model = load_clip(str(save_state(tmp_path / "a.pt")))
    assert {f"visual.{n}" for n in clip_model.visual.state_dict()} == names


def test_weights_beside_an_arch_that_is_a_file(tmp_path):
    """`arch` determines the shapes, `weights` the values."""
    arch, weights = save_state(tmp_path / "a.pt"), save_state(tmp_path / "b.pt", seed=5)
    assert_same_towers(load_clip(str(arch), str(weights)), make_clip(seed=5))


def tiny_named(monkeypatch, name, **more):
    """open_clip's config of `name` shrunk to the tiny weights."""
    config = {
        "embed_dim": EMBED_DIM,
        "vision_cfg": dict(VIT),
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
    }
    monkeypatch.setattr(open_clip, "get_model_config", lambda asked: config | more)


@pytest.mark.parametrize(
    ("arch", "is_archive", "quick"),
    [
        ("ViT-B/32", False, True),  # OpenAI's name: OpenAI's activation
        ("ViT-B-32", False, False),  # open_clip's name: open_clip's own weights
        ("ViT-B-32", True, True),  # ... but the file is OpenAI's
    ],
)
def test_quick_gelu_where_the_weights_need_it(tmp_path, monkeypatch, arch, is_archive, quick):
    tiny_named(monkeypatch, "ViT-B-32")
    path = tmp_path / "w.pt"
    if is_archive:
        save_archive(path, make_clip())
    else:
        save_state(path)
    clip_model = load_clip(arch, str(path))
    activations = {type(b.mlp.gelu).__name__ for b in clip_model.visual.transformer.resblocks}
    assert clip_model.text_config["quick_gelu"] is quick and activations == {"QuickGELU" if quick else "GELU"}


def test_quick_gelu_of_tags(monkeypatch):
    """Tags determine it; nothing is downloaded."""
    asked = []

    def download(config):
        asked.append(config)
        raise OSError("no network")

    monkeypatch.setattr(open_clip, "download_pretrained", download)
    monkeypatch.setattr("clip.download.is_reachable", lambda url: True)
    for tag in ("openai", "laion2b_s34b_b79k"):
        with pytest.raises(UserError, match=f"weights {tag} of ViT-B-32 could not be downloaded .*network.weights"):
            load_clip("ViT-B/32", tag)
    assert [bool(config.get("quick_gelu")) for config in asked] == [True, False]


def test_random_weights_are_a_warning(tmp_path, caplog):
    path = save_state(tmp_path / "a.pt")
    with caplog.at_level(logging.WARNING):
        clip_model = load_clip(str(path), "none")
    assert "RANDOM weights" in caplog.text
    assert not torch.equal(clip_model.visual.proj, state_of()["visual.proj"])


def test_image_tower_only(tmp_path, caplog):
    path = save_state(tmp_path / "a.pt")
    with caplog.at_level(logging.WARNING):
        clip_model = load_clip(str(path), visual_only=True)
    assert "only the image tower's weights" in caplog.text
    state = state_of()
    assert torch.equal(clip_model.visual.proj, state["visual.proj"])
    assert not torch.equal(clip_model.text.token_embedding.weight, state["token_embedding.weight"])


@pytest.mark.parametrize(("vision", "size", "sides"), [(VIT, 64, ("4x4", "8x8")), (RESNET, 96, ("2x2", "3x3"))])
def test_resized_positions_are_reported(tmp_path, caplog, vision, size, sides):
    path = save_state(tmp_path / "a.pt", vision)
    with caplog.at_level(logging.WARNING):
        clip_model = load_clip(str(path), image_size=size)
    assert f"position embeddings resized from {sides[0]} to {sides[1]}" in caplog.text
    assert clip_model.image_size == size
    with torch.no_grad():
        assert clip_model.visual(torch.rand(1, 3, size, size)).shape == (1, EMBED_DIM)


def test_resized_positions_keep_the_class_token_and_a_constant(tmp_path):
    state = state_of()
    state["visual.positional_embedding"][1:] = 0.5
    torch.save(state, tmp_path / "a.pt")
    table = load_clip(str(tmp_path / "a.pt"), image_size=48).visual.positional_embedding.detach()
    assert torch.equal(table[0], state["visual.positional_embedding"][0])
    torch.testing.assert_close(table[1:], torch.full((36, 64), 0.5))


def test_sizes_that_are_not_a_multiple_of_the_patch(tmp_path):
    path = save_state(tmp_path / "a.pt")
    with pytest.raises(UserError, match="input_size 36.*multiple of 8 pixels"):
        load_clip(str(path), image_size=36)


def test_strict_loading_names_the_faults(tmp_path):
    state = state_of()
    del state["visual.ln_pre.weight"], state["ln_final.bias"]
    state["visual.surplus"] = torch.zeros(1)
    state["visual.proj"] = torch.zeros(64, 16)
    torch.save(state, tmp_path / "w.pt")
    arch = save_state(tmp_path / "a.pt")
    with pytest.raises(UserError) as error:
        load_clip(str(arch), str(tmp_path / "w.pt"))
    for part in (
        "2 missing: ", "visual.ln_pre.weight", "text.ln_final.bias", "1 unexpected: visual.surplus",
        "1 of a different shape: visual.proj (64, 16) in the file, (64, 32) in the model",
    ):  # fmt: skip
        assert part in str(error.value), error.value
    assert "\n" not in str(error.value)


def test_incomplete_and_foreign_files_as_arch(tmp_path):
    state = state_of()
    del state["text_projection"]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError, match="text_projection is missing"):
        load_clip(str(tmp_path / "w.pt"))
    torch.save({"weight": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="not in OpenAI's format"):
        load_clip(str(tmp_path / "w.pt"))


def test_tokenizer(tmp_path, caplog):
    clip_model = load_clip(str(save_state(tmp_path / "a.pt")))
    tokens = clip_model.tokenize(["a photo of a dog, a photo of a cat", "Résumé &amp; CV"])
    assert tokens.shape == (2, 77) and tokens.dtype == torch.int64
    # <start> a photo of a dog , a photo of a cat <end>, as CLIP's byte-pair encoding numbers them.
    expected = [49406, 320, 1125, 539, 320, 1929, 267, 320, 1125, 539, 320, 2368, 49407]
    assert tokens[0].tolist() == expected + [0] * (77 - len(expected))
    assert torch.equal(clip_model.tokenize(["résumé & cv"])[0], tokens[1])
    assert not caplog.records
    cut = clip_model.tokenize(["word " * 100])
    assert cut[0, -1] == 49407 and "longer than 77 tokens is truncated" in caplog.text
