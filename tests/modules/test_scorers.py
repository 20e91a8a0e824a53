"""Scorers: contents of tables, and their logits."""

import numpy as np
import pytest
import torch

from modules.build import build_model, build_model_and_text, build_text
from modules.scorers.scorer import class_vectors
from modules.text_classifier import class_features_of_words, encode_texts
from tests.modules.tiny import NAMES, clip_of, make_clips, make_config
from utils.errors import UserError
from utils.metrics import class_logits, normalize

CPU = torch.device("cpu")


def scorer_and_text(cfg):
    model, text = build_model_and_text(cfg, NAMES, CPU)
    return model.eval(), text


def test_cosine_scores_of_a_table_equal_class_logits(tmp_path):
    model, text = scorer_and_text(make_config(tmp_path))
    embeddings = np.random.default_rng(0).normal(size=(5, text.shape[1])).astype(np.float32)
    assert np.array_equal(model.scorer.table_logits(embeddings, text.numpy()), class_logits(embeddings, text.numpy()))
    assert not list(model.scorer.state_dict())


def test_the_words_of_a_text_are_its_tokens_through_norm_and_projection(tmp_path):
    clip_model = clip_of(make_config(tmp_path))
    found = class_features_of_words(clip_model, NAMES)
    assert found.shape == (3, 1 + 77, clip_model.embed_dim)
    torch.testing.assert_close(found[:, 0], encode_texts(clip_model, NAMES))
    # The embedding is the word at the end of the text, whose token has the largest number.
    ends = clip_model.tokenize(NAMES).argmax(dim=1)
    torch.testing.assert_close(found[torch.arange(3), 1 + ends], found[:, 0])


@pytest.mark.parametrize("head", ["Transf", "None"])
def test_vcs_scores_the_frames_of_each_view_and_averages(tmp_path, head):
    model, text = scorer_and_text(make_config(tmp_path, scorer="vcs", sim_header=head))
    with torch.no_grad():
        frames = model.video_features(make_clips(4))
        logits = model(make_clips(4), text)
    assert frames.shape == (4, 4, model.embed_dim)
    torch.testing.assert_close(frames.mean(dim=1), model.encode_video(make_clips(4)))
    table = frames.unflatten(0, (2, 2)).numpy()  # two videos of two views
    table = np.concatenate([table, np.full_like(table[:1], np.nan)])
    found = model.scorer.table_logits(table, text.numpy())
    scale = 100 / model.logit_scale.exp().item()
    torch.testing.assert_close(torch.from_numpy(found[:2]), scale * logits.unflatten(0, (2, 2)).mean(dim=1))
    assert np.isnan(found[2]).all()
    assert model.scorer.vectors(table).shape == (3, model.embed_dim)


def test_vcs_weights_the_frame_that_matches_the_class(tmp_path):
    model, _ = scorer_and_text(make_config(tmp_path, scorer="vcs"))
    frames = torch.eye(4)[None, :3]  # one video whose frames are three directions
    classes = torch.stack([torch.eye(4)[c].expand(3, 4) for c in (0, 3)])  # text and words of a class alike
    logits = model.scorer(frames, classes)
    torch.testing.assert_close(logits[0], torch.tensor([100.0, 0.0]))


@pytest.mark.parametrize("change", [{"classifier": "random"}, {"fix_text": False}, {"train_classifier": True}])
def test_vcs_refuses_classes_without_words(tmp_path, change):
    cfg = make_config(tmp_path, scorer="vcs", **change)
    with pytest.raises(UserError, match="network.scorer vcs"):
        build_model(cfg, clip_of(cfg), NAMES, build_text(cfg, clip_of(cfg), NAMES))


def test_linear_is_a_product_and_a_bias(tmp_path):
    cfg = make_config(tmp_path, scorer="linear", train_classifier=True)
    model, text = scorer_and_text(cfg)
    assert text is None
    model.scorer.bias.data += torch.tensor([1.0, 2.0, 3.0])
    with torch.no_grad():
        video = model.encode_video(make_clips())
        expected = video @ model.class_embeddings().T + torch.tensor([1.0, 2.0, 3.0])
        torch.testing.assert_close(model(make_clips()), expected)
        rows = model.class_embeddings().numpy()
    torch.testing.assert_close(torch.from_numpy(model.scorer.table_logits(video.numpy(), rows)), expected)
    with pytest.raises(UserError, match="train_classifier=true"):
        build_model_and_text(make_config(tmp_path, scorer="linear"), NAMES, CPU)


def test_class_vectors_are_the_first_rows():
    rows = np.random.default_rng(0).normal(size=(3, 2, 4))
    assert np.array_equal(class_vectors(rows), rows[:, 0]) and np.array_equal(class_vectors(rows[:, 1]), rows[:, 1])
    assert normalize(class_vectors(rows)).shape == (3, 4)
