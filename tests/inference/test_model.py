"""The loaded model: the probabilities of an evaluation, CLIP without training, other classes without reloading."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from inference import load_model
from inference import model as model_module
from inference.model import NAMES_PER_TURN
from inference.timeline import MAX_KEPT_CLIPS, collect
from modules.build import build_model_and_text
from modules.checkpoint_layout import load_video_weights
from tests.commands.world import CLASSES
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.config import load_config
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
    model, text = build_model_and_text(cfg, list(CLASSES), CPU)
    load_video_weights(model.eval(), load_checkpoint(weights), str(weights))
    with torch.inference_mode():
        embeddings = model.encode_video(clips()).numpy()
        matrix = (model.class_embeddings() if text is None else text).numpy()
    model = load_model(weights, config, device=CPU)
    assert model.class_names == list(CLASSES)
    found = model.classify(model.embed(clips()))
    np.testing.assert_allclose(found, softmax(class_logits(embeddings, matrix)), atol=1e-6)


@pytest.mark.parametrize("overrides", [[], ["fix_text=false"], ["context_tokens=2"]])
def test_other_classes_do_not_reload_the_model(tmp_path, world, overrides, monkeypatch):
    config, weights = checkpoint(tmp_path, world, *overrides)
    fresh = load_model(weights, config, NEW, device=CPU)
    first = load_model(weights, config, device=CPU)
    monkeypatch.setattr(model_module, "load_clip_model", None)
    second = first.with_classes(NEW)
    embeddings = first.embed(clips())
    assert second.class_names == NEW and first.class_names == list(CLASSES)
    np.testing.assert_allclose(second.classify(embeddings), fresh.classify(embeddings), atol=1e-6)
    assert first.classify(embeddings).shape == (3, 3)
    assert first.with_classes(list(CLASSES)) is first


def test_the_embeddings_of_other_classes_are_cached_in_one_file(tmp_path, world):
    model = load_model(None, world.config, classes=NEW, overrides=[f"logging.cache_dir={tmp_path}"], device=CPU)
    before = set(tmp_path.iterdir())
    names = [f"thing {number}" for number in range(NAMES_PER_TURN + 1)]
    assert model.with_classes(names).class_matrix.shape == (len(names), 32)
    assert len(set(tmp_path.iterdir()) - before) == 1


def test_without_weights_it_is_clip_and_the_mean_of_frames(world):
    model = load_model(None, world.config, classes=NEW, device=CPU)  # its config says Transf
    assert "not fine-tuned" in model.description and "no checkpoint" in model.description
    clip = clips(1)
    frames = np.stack([model.embed(clip[:, [i] * 4])[0] for i in range(4)])
    np.testing.assert_allclose(model.embed(clip)[0], frames.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [(["tm=tokenshift"], "head Transf, tm tokenshift"), (["joint_st=true", "sim_header=None"], "(joint_st), 4 frames")],
)
def test_the_description_names_the_additions_to_the_tower(tmp_path, world, overrides, said):
    assert said in load_model(*checkpoint(tmp_path, world, *overrides)[::-1], device=CPU).description


def test_without_config_every_key_has_its_default(world):
    model = load_model(classes=NEW, overrides=[f"network.arch={world.arch}", "data.input_size=32"], device=CPU)
    assert model.cfg.data.num_segments == 8


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["classifier=orthogonal"], "network.classifier orthogonal"),
        (["train_classifier=true"], "network.train_classifier"),
        (["context_tokens=2", "context_per_class=true"], "network.context_per_class"),
    ],
)
def test_classes_of_a_trained_classifier_cannot_be_changed(tmp_path, world, overrides, named):
    config, weights = checkpoint(tmp_path, world, *overrides)
    with pytest.raises(UserError, match=named):
        load_model(weights, config, NEW, device=CPU)
    with pytest.raises(UserError, match=named):
        load_model(weights, config, device=CPU).with_classes(NEW)


def test_the_default_classes_are_those_of_kinetics_and_reported(world, caplog):
    model = load_model(None, world.config, overrides=["data.label_list=null"], device=CPU)
    assert len(model.class_names) == 400 and "using the 400 classes of Kinetics-400" in caplog.text


def test_frames_in_memory_give_the_results_of_files(world):
    model = load_model(None, world.config, classes=NEW, device=CPU)
    folder = world.root / "frames" / "val_0_0"
    frames = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    expected = model.predict(folder, window=0.2, stride=0.1)
    assert len(expected.spans) > 1
    for array in (frames, torch.from_numpy(frames), torch.from_numpy(frames).permute(0, 3, 1, 2)):
        found = model.predict(array, window=0.2, stride=0.1)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-3)  # two JPEG decoders
        np.testing.assert_allclose(found.spans, expected.spans)
        assert model.clips(array).shape == (1, 4, 3, 32, 32) and model.reader.num_windows(array, 0.2, 0.1) == len(
            found.spans
        )
    assert model.embed_frames(model.clips(frames)).shape == (1, 4, 32)
    for wrong in (frames[0], frames.astype(np.float32), frames[..., :2], frames[:0]):
        with pytest.raises(UserError, match="frames: "):
            model.predict(wrong)


@pytest.mark.parametrize("value", [torch.nan, 1e30])
def test_an_embedding_that_is_not_finite_or_has_no_length_is_an_error(tmp_path, world, value):
    model = load_model(*checkpoint(tmp_path, world)[::-1], device=CPU)
    with torch.no_grad():
        model.network.fusion_model.transformer.resblocks[-1].mlp.c_proj.bias[0] = value
    with pytest.raises(UserError, match="val_0_0: its embedding is zero or not finite"):
        model.predict(world.root / "frames" / "val_0_0")


def test_an_embedding_that_is_zero_is_an_error(tmp_path, world):
    config, weights = checkpoint(tmp_path, world)
    state = load_checkpoint(weights)
    for value in state["model_state_dict"].values():
        value.zero_()
    save_checkpoint(weights, state)
    with pytest.raises(UserError, match="val_0_0: its embedding is zero or not finite"):
        load_model(weights, config, device=CPU).predict(world.root / "frames" / "val_0_0")


def test_class_embeddings_that_are_not_finite_are_an_error(tmp_path, world):
    config, weights = checkpoint(tmp_path, world, "train_classifier=true")
    state = load_checkpoint(weights)
    state["model_state_dict"]["classifier.weight"][0] = torch.nan
    save_checkpoint(weights, state)
    with pytest.raises(UserError, match="w.pt: .* a class embedding is zero or not finite"):
        load_model(weights, config, device=CPU)


def test_results_do_not_depend_on_batches_and_few_clips_are_in_memory(world):
    model = load_model(None, world.config, classes=NEW, device=CPU)
    windows = [Window(i, i + 1, clip) for i, clip in enumerate(clips(30))]
    one = model.predict_windows(iter(windows), "a", 0.4, batch_size=1)
    many = model.predict_windows(iter(windows), "a", 0.4, batch_size=7)
    np.testing.assert_allclose(one.probabilities, many.probabilities, atol=1e-5)
    assert one.threshold == 0.4 and len(one.spans) == 30
    assert len(one.clips) <= MAX_KEPT_CLIPS
    numbers = [number for number, _ in one.clips]
    assert len(set(np.diff(numbers))) == 1 and torch.equal(one.clips[-1][1].frames, windows[numbers[-1]].clip)


def test_a_source_without_windows_is_an_error():
    with pytest.raises(UserError, match="a.mp4: contains no frames"):
        collect(iter(()), "a.mp4", NEW)
