"""The predictor: the same figures as an evaluation, plain CLIP, other classes without loading again."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml

from inference import predictor as predictor_module
from inference.predictor import MAX_KEPT_CLIPS, collect, load_predictor
from modules.testing import load_tested_model
from tests.commands.world import CLASSES
from utils.checkpoint import save_checkpoint
from utils.config import load_config
from utils.distributed import Process
from utils.errors import UserError
from utils.metrics import class_logits, softmax

NEW = ["juggling", "playing guitar"]
CPU = torch.device("cpu")


class Window(NamedTuple):
    start: float
    end: float
    clip: torch.Tensor


def clips(count: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 4, 3, 32, 32), dtype=np.uint8))


def checkpoint(tmp_path, world, *overrides: str):
    """A checkpoint of the config's model with weights of its own, and the config file."""
    config = yaml.safe_load(world.config.read_text())
    for text in overrides:
        name, value = text.split("=")
        config["network"][name] = yaml.safe_load(value)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    cfg = load_config(tmp_path / "c.yaml", purpose="predict").config
    from modules.build import build_model_and_text

    torch.manual_seed(3)
    model, _ = build_model_and_text(cfg, list(CLASSES), CPU)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    save_checkpoint(tmp_path / "w.pt", {"model_state_dict": model.state_dict(), "class_names": list(CLASSES)})
    return tmp_path / "c.yaml", tmp_path / "w.pt"


@pytest.mark.parametrize("overrides", [[], ["fix_text=false"], ["context_tokens=2"], ["train_classifier=true"]])
def test_probabilities_are_those_of_an_evaluation(tmp_path, world, overrides):
    config, weights = checkpoint(tmp_path, world, *overrides)
    cfg = load_config(config, purpose="predict").config
    model, text, *_ = load_tested_model(cfg, list(CLASSES), str(weights), Process(0, 1, 0, CPU))
    with torch.inference_mode():
        embeddings = model.encode_video(clips()).numpy()
        matrix = (model.class_embeddings() if text is None else text).numpy()
    predictor = load_predictor(config, weights, device=CPU)
    assert predictor.class_names == list(CLASSES)
    found = predictor.classify(predictor.embed(clips()))
    np.testing.assert_allclose(found, softmax(class_logits(embeddings, matrix)), atol=1e-6)


@pytest.mark.parametrize("overrides", [[], ["fix_text=false"], ["context_tokens=2"]])
def test_other_classes_need_no_loading(tmp_path, world, overrides, monkeypatch):
    config, weights = checkpoint(tmp_path, world, *overrides)
    fresh = load_predictor(config, weights, NEW, device=CPU)
    first = load_predictor(config, weights, device=CPU)
    monkeypatch.setattr(predictor_module, "load_clip_model", None)
    second = first.with_classes(NEW)
    embeddings = first.embed(clips())
    assert second.class_names == NEW and first.class_names == list(CLASSES)
    np.testing.assert_allclose(second.classify(embeddings), fresh.classify(embeddings), atol=1e-6)
    assert first.classify(embeddings).shape == (3, 3)
    assert first.with_classes(list(CLASSES)) is first


def test_without_weights_it_is_clip_and_the_mean_of_frames(world):
    predictor = load_predictor(world.config, classes=NEW, device=CPU)  # its config says Transf
    assert "plain CLIP" in predictor.description and "no video checkpoint" in predictor.description
    clip = clips(1)
    frames = np.stack([predictor.embed(clip[:, [i] * 4])[0] for i in range(4)])
    np.testing.assert_allclose(predictor.embed(clip)[0], frames.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [(["tm=tokenshift"], "head Transf, tm tokenshift"), (["joint_st=true", "sim_header=None"], "(joint_st), 4 frames")],
)
def test_the_description_names_what_is_inside_the_tower(tmp_path, world, overrides, said):
    assert said in load_predictor(*checkpoint(tmp_path, world, *overrides), device=CPU).description


def test_without_config_every_key_has_its_default(world):
    predictor = load_predictor(
        None, classes=NEW, overrides=[f"network.arch={world.arch}", "data.input_size=32"], device=CPU
    )
    assert predictor.cfg.data.num_segments == 8


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["classifier=orthogonal"], "network.classifier orthogonal"),
        (["train_classifier=true"], "network.train_classifier"),
        (["context_tokens=2", "context_per_class=true"], "network.context_per_class"),
    ],
)
def test_classes_that_belong_to_the_checkpoint_cannot_be_typed(tmp_path, world, overrides, named):
    config, weights = checkpoint(tmp_path, world, *overrides)
    with pytest.raises(UserError, match=named):
        load_predictor(config, weights, NEW, device=CPU)
    with pytest.raises(UserError, match=named):
        load_predictor(config, weights, device=CPU).with_classes(NEW)


def test_no_classes_at_all_is_said(world):
    with pytest.raises(UserError, match="no classes"):
        load_predictor(world.config, device=CPU)


def test_batches_change_nothing_and_few_clips_are_kept(world):
    predictor = load_predictor(world.config, classes=NEW, device=CPU)
    windows = [Window(i, i + 1, clip) for i, clip in enumerate(clips(30))]
    one = predictor.predict(iter(windows), "a", 0.4, batch_size=1)
    many = predictor.predict(iter(windows), "a", 0.4, batch_size=7)
    np.testing.assert_allclose(one.probabilities, many.probabilities, atol=1e-5)
    assert one.threshold == 0.4 and len(one.spans) == 30
    assert len(one.clips) <= MAX_KEPT_CLIPS
    numbers = [number for number, _ in one.clips]
    assert len(set(np.diff(numbers))) == 1 and torch.equal(one.clips[-1][1], windows[numbers[-1]].clip)


def test_a_source_without_windows_is_an_error():
    with pytest.raises(UserError, match="a.mp4: no frames"):
        collect(iter(()), "a.mp4", NEW)
