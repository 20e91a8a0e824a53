"""Class embeddings from prompts, and their cache, whose key is the content."""

import errno
import logging

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from modules import text_classifier
from modules.prompts import fill_templates
from modules.text_classifier import class_embeddings, encode_classes, text_weights_hash
from tests.modules.tiny import NAMES, clip_of, make_config

PROMPTS = fill_templates(NAMES, ["a video of a person {}."])


@pytest.fixture
def clip_model(tmp_path):
    return clip_of(make_config(tmp_path))


@pytest.fixture
def encodings(monkeypatch):
    """Counts how often texts really go through a text tower."""
    calls = []
    original = text_classifier.encode_texts

    def counted(*arguments):
        calls.append(arguments[1])
        return original(*arguments)

    monkeypatch.setattr(text_classifier, "encode_texts", counted)
    return calls


def test_one_prompt_is_used_directly_and_several_are_averaged(clip_model):
    with torch.no_grad():
        alone = clip_model.text(clip_model.tokenize([PROMPTS[0][0]]))
    matrix = encode_classes(clip_model, PROMPTS)
    assert matrix.shape == (3, 32) and matrix.dtype == torch.float32
    torch.testing.assert_close(matrix[:1], alone)
    templates = ["a video of {}.", "{}, a person"]
    parts = [encode_classes(clip_model, fill_templates(NAMES, [template])) for template in templates]
    ensemble = encode_classes(clip_model, fill_templates(NAMES, templates))
    torch.testing.assert_close(ensemble, (F.normalize(parts[0], dim=-1) + F.normalize(parts[1], dim=-1)) / 2)


def test_classes_with_different_numbers_of_prompts(clip_model):
    matrix = encode_classes(clip_model, [["a", "b", "c"], ["d"]])
    torch.testing.assert_close(matrix[1], F.normalize(encode_classes(clip_model, [["d"]])[0], dim=-1))


def test_the_second_time_comes_from_the_cache(clip_model, tmp_path, encodings):
    first = class_embeddings(clip_model, NAMES, PROMPTS, tmp_path)
    assert len(encodings) == 1
    assert torch.equal(class_embeddings(clip_model, NAMES, PROMPTS, tmp_path), first) and len(encodings) == 1
    class_embeddings(clip_model, NAMES, PROMPTS, None)
    assert len(encodings) == 2


@pytest.mark.parametrize("change", ["prompt", "names", "order", "weights", "activation"])
def test_the_cache_is_keyed_by_prompt_names_and_text_weights(clip_model, tmp_path, encodings, change):
    first = class_embeddings(clip_model, NAMES, PROMPTS, tmp_path)
    names, prompts = NAMES, PROMPTS
    if change == "prompt":
        prompts = fill_templates(NAMES, ["a clip of {}."])
    elif change == "names":
        names = [*NAMES[:2], "diving"]
        prompts = fill_templates(names, ["a video of a person {}."])
    elif change == "order":
        names, prompts = NAMES[::-1], PROMPTS[::-1]
    elif change == "weights":
        with torch.no_grad():
            clip_model.text.ln_final.bias[0] += 1
    else:  # not a tensor, and the same weights give other embeddings
        clip_model.text_config = clip_model.text_config | {"quick_gelu": False}
    second = class_embeddings(clip_model, names, prompts, tmp_path)
    assert len(encodings) == 2
    assert change == "activation" or not torch.equal(first, second)


def test_the_image_tower_does_not_change_the_cache_key(clip_model, tmp_path, encodings):
    """Cached by content: another data set or image tower with the same text tower finds the same file."""
    class_embeddings(clip_model, NAMES, PROMPTS, tmp_path)
    with torch.no_grad():
        clip_model.visual.proj += 1
    class_embeddings(clip_model, NAMES, PROMPTS, tmp_path)
    assert len(encodings) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "pickle", "altered"])
def test_a_corrupted_cache_is_reported_and_recomputed(clip_model, tmp_path, encodings, caplog, damage):
    first = class_embeddings(clip_model, NAMES, PROMPTS, tmp_path)
    (path,) = tmp_path.glob("classifier-clip_text-*.npz")
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        other = tmp_path / "other"
        class_embeddings(clip_model, NAMES[:2], PROMPTS[:2], other)
        next(other.iterdir()).replace(path)
        encodings.pop()
    else:
        with np.load(path) as content:
            fields = dict(content)
        if damage == "pickle":
            fields["matrix"] = np.array([{}], dtype=object)
        else:
            fields["matrix"][1, 1] += 1
        np.savez(path, **fields)
    with caplog.at_level(logging.WARNING):
        again = class_embeddings(clip_model, NAMES, PROMPTS, tmp_path)
    torch.testing.assert_close(again, first)
    assert len(encodings) == 2 and str(path) in caplog.text
    class_embeddings(clip_model, NAMES, PROMPTS, tmp_path)
    assert len(encodings) == 2  # and it was written again


def test_a_failed_write_leaves_no_cache_file(clip_model, tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert class_embeddings(clip_model, NAMES, PROMPTS, tmp_path / "cache").shape[0] == len(NAMES)
    assert "cannot be written (no space left on device)" in caplog.text
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_text_tower_is_used_in_eval_mode_and_restored(clip_model):
    clip_model.text.train()
    embeddings = encode_classes(clip_model, PROMPTS)
    assert clip_model.text.training and not embeddings.requires_grad
    assert text_weights_hash(clip_model) == text_weights_hash(clip_model)
