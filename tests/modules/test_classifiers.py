"""`build_text`: every kind of classifier, and the file that it saves."""

import builtins
import json
import logging

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from modules.build import build_text
from modules.classifier_file import ClassifierFile, load_classifier, save_classifier
from modules.classifiers.language_model import LanguageModel, fit_width
from modules.prompts import fill_templates
from modules.text_classifier import encode_classes
from tests.modules.tiny import NAMES, clip_of, make_config
from utils.errors import UserError

WIDTH = 32


def text_of(cfg, names=NAMES):
    return build_text(cfg, clip_of(cfg), names)


def kept(folder) -> ClassifierFile:
    (path,) = (folder / "cache").glob("classifier-*.npz")
    with np.load(path, allow_pickle=False) as file:
        assert {"matrix", "class_names", "kind", "prompts", "source_hash", "content_hash"} == set(file)
    return load_classifier(path)


def test_clip_text_and_its_saved_classifier(tmp_path):
    cfg = make_config(tmp_path, prompt="a clip of {}.")
    text = text_of(cfg)
    prompts = fill_templates(NAMES, ["a clip of {}."])
    torch.testing.assert_close(text, encode_classes(clip_of(cfg), prompts))
    found = kept(tmp_path)
    assert torch.equal(found.matrix, text) and found.class_names == NAMES and found.kind == "clip_text"
    assert found.prompts == prompts and len(found.source_hash) == 64


def test_an_ensemble(tmp_path):
    cfg = make_config(tmp_path, prompt_set="action16")
    assert torch.equal(text_of(cfg), kept(tmp_path).matrix) and len(kept(tmp_path).prompts[0]) == 16
    assert not torch.allclose(F.normalize(text_of(cfg)), F.normalize(text_of(make_config(tmp_path))), atol=1e-3)


def test_random_is_normal_and_seeded(tmp_path):
    names = [str(i) for i in range(400)]
    text = text_of(make_config(tmp_path, classifier="random"), names)
    assert text.shape == (400, WIDTH) and text.dtype == torch.float32
    assert abs(text.mean()) < 0.03 and abs(text.std() - 1) < 0.03
    assert torch.equal(
        text_of(make_config(tmp_path, classifier="random", logging_cache_dir=str(tmp_path / "b")), names), text
    )
    cfg = make_config(tmp_path, classifier="random").model_copy(update={"seed": 3})
    assert not torch.equal(text_of(cfg, names), text)


def test_orthogonal_rows(tmp_path):
    names = [str(i) for i in range(WIDTH)]
    cfg = make_config(tmp_path, classifier="orthogonal")
    text = text_of(cfg, names)
    torch.testing.assert_close(text @ text.T, torch.eye(WIDTH), rtol=0, atol=1e-5)
    assert torch.equal(kept(tmp_path).matrix, text) and kept(tmp_path).kind == "orthogonal"
    with pytest.raises(UserError, match="33 classes cannot be orthogonal in 32 dimensions"):
        text_of(cfg, [*names, "one more"])


@pytest.mark.parametrize("place", ["/proc/x", "a file", "a file/below"])
def test_an_unusable_cache_is_reported_and_not_used(tmp_path, caplog, place):
    (tmp_path / "a file").write_text("")
    cache = tmp_path / place  # /proc/x stays what it is
    cfg = make_config(tmp_path, logging_cache_dir=str(cache))
    with caplog.at_level(logging.WARNING):
        text = text_of(cfg)
    torch.testing.assert_close(text, encode_classes(clip_of(cfg), [[cfg.network.prompt.format(n)] for n in NAMES]))
    (line,) = caplog.messages
    assert line.startswith(f"WARNING: logging.cache_dir: {cache} cannot be written (") and "\n" not in line


def save(path, matrix=None, names=NAMES, kind="lda"):
    matrix = torch.randn(len(names), WIDTH) if matrix is None else matrix
    save_classifier(path, ClassifierFile(matrix, list(names), kind, [], "0" * 64))
    return matrix


@pytest.mark.parametrize("kind", ["lda", "file"])
def test_a_classifier_from_a_file_is_matched_by_class_name(tmp_path, kind):
    path = tmp_path / "c.npz"
    matrix = save(path)
    cfg = make_config(tmp_path, classifier=kind, classifier_file=str(path))
    assert torch.equal(text_of(cfg), matrix)
    assert torch.equal(text_of(cfg, NAMES[::-1]), matrix.flip(0)) and torch.equal(text_of(cfg, NAMES[1:2]), matrix[1:2])
    with pytest.raises(UserError, match="c.npz: 1 of the 2 classes are missing, such as diving"):
        text_of(cfg, [NAMES[0], "diving"])
    save(path, torch.zeros(3, 16))
    with pytest.raises(UserError, match="have 16 dimensions, but the image tower has 32"):
        text_of(cfg)


def test_the_classifier_file_of_a_run_can_be_used_by_another(tmp_path, caplog):
    with caplog.at_level("INFO"):
        text = text_of(make_config(tmp_path))
    (path,) = (tmp_path / "cache").iterdir()
    assert f"saved: {path}" in caplog.text
    assert torch.equal(text_of(make_config(tmp_path, classifier="file", classifier_file=str(path))), text)


@pytest.mark.parametrize("damage", ["absent", "cut", "altered", "other", "pickle", "encrypted"])
def test_corrupted_files_are_errors(tmp_path, damage):
    path = tmp_path / "c.npz"
    save(path)
    if damage == "absent":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "encrypted":  # bit 0 of the flags in zip's directory, on which zipfile raises a RuntimeError
        data = bytearray(path.read_bytes())
        data[data.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(bytes(data))
    elif damage == "other":
        np.savez(path, matrix=np.zeros((3, WIDTH), np.float32))
    else:
        with np.load(path) as file:
            fields = dict(file)
        fields["class_names"] = fields["class_names"][::-1] if damage == "altered" else np.array([{}], dtype=object)
        np.savez(path, **fields)
    with pytest.raises(UserError, match="c.npz: (no such classifier file|corrupted or truncated classifier file)"):
        text_of(make_config(tmp_path, classifier="file", classifier_file=str(path)))


@pytest.fixture(scope="module")
def language_model(tmp_path_factory) -> str:
    """A sentence encoder of transformers with random weights, in a folder."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "riding", "a", "bike", "playing", "guitar", "swimming"]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(vocab_size=len(words), dim=24, hidden_dim=48, n_layers=2, n_heads=2)
    transformers.DistilBertModel(config).save_pretrained(folder)
    return str(folder)


def test_a_language_model_of_the_names(tmp_path, language_model):
    import transformers

    cfg = make_config(tmp_path, classifier="language_model", language_model=language_model)
    text = text_of(cfg)
    tokenizer = transformers.AutoTokenizer.from_pretrained(language_model)
    model = transformers.AutoModel.from_pretrained(language_model).eval()
    with torch.no_grad():
        by_hand = torch.stack(
            [model(tokenizer(name, return_tensors="pt")["input_ids"]).last_hidden_state[0].mean(0) for name in NAMES]
        )
    assert text.shape == (3, WIDTH)  # of 24 values each, brought to 32 with the same cosines
    torch.testing.assert_close(
        F.normalize(text) @ F.normalize(text).T, F.normalize(by_hand) @ F.normalize(by_hand).T, rtol=1e-4, atol=1e-5
    )
    assert kept(tmp_path).prompts == [[name] for name in NAMES]
    cls = make_config(tmp_path, classifier="language_model", language_model=language_model, language_pooling="cls")
    assert not torch.allclose(text_of(cls), text, atol=1e-3)
    # A class has the same embedding in every list of classes.
    torch.testing.assert_close(text_of(cfg, NAMES[1:]), text[1:], rtol=1e-4, atol=1e-5)


def test_an_encoder_decoder_and_a_model_without_padding(tmp_path, language_model):
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(language_model)
    sizes = {"vocab_size": len(tokenizer), "d_model": 24, "d_kv": 12, "d_ff": 48, "num_layers": 1, "num_heads": 2}
    torch.manual_seed(0)
    t5 = transformers.T5Model(transformers.T5Config(**sizes)).eval()
    gpt_sizes = {"vocab_size": len(tokenizer), "n_embd": 24, "n_layer": 1, "n_head": 2}
    gpt = transformers.GPT2Model(transformers.GPT2Config(**gpt_sizes)).eval()
    vision = transformers.ViTModel(transformers.ViTConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2))
    for name, model in (("t5", t5), ("gpt", gpt), ("vision", vision)):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    bare = json.loads((tmp_path / "gpt" / "tokenizer_config.json").read_text())
    bare.update({"pad_token": None, "eos_token": "[SEP]"})
    (tmp_path / "gpt" / "tokenizer_config.json").write_text(json.dumps(bare))
    for name, encoder in (("t5", t5.encoder), ("gpt", gpt)):
        text = LanguageModel(str(tmp_path / name), "mean").encode(NAMES)
        with torch.no_grad():
            tokens = [tokenizer(name, return_tensors="pt")["input_ids"] for name in NAMES]
            alone = [encoder(ids).last_hidden_state[0].mean(0) for ids in tokens]
        torch.testing.assert_close(text, torch.stack(alone), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="vision: could not be loaded, or does not encode text"):
        LanguageModel(str(tmp_path / "vision"), "mean")


def test_width_of_another_model(caplog):
    rows = torch.randn(5, 64)
    assert fit_width(rows, 64) is rows and fit_width(rows, 48).shape == (5, 48)
    assert "its 64 values are projected" in caplog.text
    torch.testing.assert_close(fit_width(rows, 100) @ fit_width(rows, 100).T, rows @ rows.T, rtol=1e-4, atol=1e-4)


def test_a_language_model_that_could_not_be_loaded(tmp_path, monkeypatch):
    cfg = make_config(tmp_path, classifier="language_model", language_model=str(tmp_path))
    original = builtins.__import__

    def without(name, *arguments):
        if name.split(".")[0] == "transformers":
            raise ImportError(name)
        return original(name, *arguments)

    clip_model = clip_of(cfg)
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(UserError, match="pip install transformers"):
            build_text(cfg, clip_model, NAMES)
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no such"}))
    with pytest.raises(UserError, match=f"network.language_model {tmp_path}: could not be loaded"):
        build_text(cfg, clip_model, NAMES)


def test_the_download_of_a_language_model_is_announced_and_fails_without_network(monkeypatch, caplog):
    pytest.importorskip("transformers")
    monkeypatch.setattr("clip.download.is_reachable", lambda url: False)
    monkeypatch.setattr("clip.download.cached_file", lambda repo, filename: None)
    with pytest.raises(UserError, match="network.language_model no/such: could not be loaded, .* cannot be reached"):
        LanguageModel("no/such", "mean")
    assert "downloading language model no/such from https://" in caplog.text
