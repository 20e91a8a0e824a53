"""tools/interpolate.py and tools/average_checkpoints.py: mixtures of weights that test.py loads."""

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import numpy as np
import pytest
import torch

from modules.build import build_model_and_text
from modules.embed import load_table
from tests.commands.world import CLASSES, call
from tests.tools.loading import load_tool
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.cli import run_command
from utils.config import load_config
from utils.hashing import file_hash


def save_model(world, path, change=0.0, overrides=(), **more):
    """Save a checkpoint of the world's model with seeded noise of size `change` added to its weights."""
    torch.manual_seed(1)
    model, _ = build_model_and_text(load_config(world.config, overrides).config, list(CLASSES), torch.device("cpu"))
    state = {name: value + change * torch.randn_like(value) for name, value in model.state_dict().items()}
    save_checkpoint(path, {"model_state_dict": state, "class_names": list(CLASSES), "config": "x: 1", **more})
    return path


@pytest.fixture(scope="module")
def tuned(world, tmp_path_factory):
    return save_model(world, tmp_path_factory.mktemp("tuned") / "tuned.pt", 0.02, optimizer_state_dict={}, epoch=3)


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run_script(name, *words):
    """Run a script in this process."""
    script = load_tool(name)
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as error:
        code = run_command(script.main, script.parse_arguments([str(word) for word in words]))
    return Result(code, out.getvalue(), error.getvalue())


def interpolate(*words):
    return run_script("interpolate", *words)


def embeddings_of(world, weights, out, *overrides):
    assert call("test", "--config", world.config, "--weights", weights, "--out", out, *overrides) == 0
    return load_table(out / "embeddings.npz")[0].embeddings


@pytest.fixture(scope="module")
def faded(world, tuned, tmp_path_factory):
    out = tmp_path_factory.mktemp("faded")
    words = ("--config", world.config, "--zeroshot", world.video_config, "--weights", tuned, "--head", "fade")
    result = interpolate(*words, "--alphas", "1,0,0.5", "--out", out, "--save", "0.5", out / "half.pt")
    assert result.returncode == 0, result.stderr
    return out, result.stdout


def test_the_curve_is_a_table_a_picture_and_json(world, tuned, faded, tmp_path):
    out, printed = faded
    assert "frames (seen), top-1 %" in printed and "videos (zero-shot), top-1 %" in printed
    curve = json.loads((out / "curve.json").read_text())
    assert curve["weights_hash"] == file_hash(tuned)
    assert curve["alphas"] == [0, 0.5, 1] and (out / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert call("test", "--config", world.config, "--weights", tuned, "--out", tmp_path) == 0
    tested = json.loads((tmp_path / "summary.json").read_text())
    last = curve["scores"][str(world.config)][-1]
    assert last == {name: tested[name] for name in last}
    assert len(curve["scores"][str(world.video_config)]) == 3


def test_the_saved_interpolation_scores_like_its_point_of_the_curve(world, tuned, faded, tmp_path):
    out, _ = faded
    assert call("test", "--config", world.config, "--weights", out / "half.pt", "--out", tmp_path) == 0
    tested = json.loads((tmp_path / "summary.json").read_text())
    middle = json.loads((out / "curve.json").read_text())["scores"][str(world.config)][1]
    assert middle == {name: tested[name] for name in middle}
    saved = load_checkpoint(out / "half.pt")
    assert saved["class_names"] == list(CLASSES) and saved["epoch"] == 3 and "optimizer_state_dict" not in saved
    mixed_from = saved["mixed_from"]
    assert mixed_from["alpha"] == 0.5 and mixed_from["head"] == "fade"
    assert mixed_from["weights_hash"] == file_hash(tuned)


def test_each_checkpoint_of_a_run_has_a_separate_folder(world, tuned, tmp_path):
    for name in ("last_model.pt", "best_model.pt"):
        weights = shutil.copy(tuned, tmp_path / name)
        assert interpolate("--config", world.config, "--weights", weights, "--alphas", "1").returncode == 0
    folders = {path.parent.name for path in tmp_path.glob("*/curve.json")}
    assert folders == {"interpolate_keep", "interpolate_keep_best_model"}


def test_the_ends_of_the_curve_are_both_models(world, tuned, tmp_path):
    """At 1 the checkpoint; at 0 with the head faded, CLIP's mean of frames; with the head kept, CLIP's tower."""
    for head, alpha in (("keep", 1), ("fade", 0), ("keep", 0)):
        words = ("--config", world.config, "--weights", tuned, "--head", head)
        result = interpolate(*words, "--save", alpha, tmp_path / f"{head}{alpha}.pt")
        assert result.returncode == 0, result.stderr
        assert "curve.json" not in result.stdout and not list(tmp_path.glob("interpolate*"))
    state, end = (load_checkpoint(p)["model_state_dict"] for p in (tuned, tmp_path / "keep1.pt"))
    assert state.keys() == end.keys() and all(torch.equal(state[name], end[name]) for name in state)

    plain = save_model(world, tmp_path / "plain.pt", overrides=["network.sim_header=None"])
    mean = embeddings_of(world, plain, tmp_path / "plain", "network.sim_header=None")
    faded = embeddings_of(world, tmp_path / "fade0.pt", tmp_path / "faded")
    np.testing.assert_allclose(faded, 2 * mean, rtol=1e-4, atol=1e-5)

    clip_tower = load_checkpoint(plain)["model_state_dict"]
    kept = load_checkpoint(tmp_path / "keep0.pt")["model_state_dict"]
    for name, value in kept.items():
        assert torch.equal(value, state[name] if name.startswith("fusion_model.") else clip_tower[name]), name


@pytest.mark.parametrize("words", [("--save", "0.5", "/proc/x/y.pt"), ("--out", "/proc/x")])
def test_unwritable_outputs_are_reported_first(world, words):
    result = interpolate("--config", world.config, "--weights", "no.pt", *words)
    assert result.returncode == 2 and f"error: {words[0]} /proc/x" in result.stderr
    assert "cannot be written" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [("--alphas", "0,2"), ("--alphas", "a"), ("--save", "-1", "x.pt")])
def test_invalid_arguments_of_interpolation(world, tuned, words):
    result = interpolate("--config", world.config, "--weights", tuned, *words)
    assert result.returncode == 2, result.stderr
    assert "must be a number from 0" in result.stderr and result.stderr.count("\n") == 1


def average(*words):
    return run_script("average_checkpoints", *words)


def test_the_average(world, tuned, tmp_path):
    other = save_model(world, tmp_path / "other.pt", 0.06)
    result = average(tuned, other, "--out", tmp_path / "mean.pt")
    assert result.returncode == 0, result.stderr
    assert "the mean of 2 checkpoints" in result.stdout
    first, second, mean = (load_checkpoint(p)["model_state_dict"] for p in (tuned, other, tmp_path / "mean.pt"))
    for name, value in mean.items():
        torch.testing.assert_close(value, (first[name] + second[name]) / 2)
    embeddings_of(world, tmp_path / "mean.pt", tmp_path / "out")  # test.py can load it


def test_invalid_arguments_of_averages(world, tuned, tmp_path):
    def fails_with(part, *files, out="mean.pt"):
        result = average(*files, "--out", tmp_path / out)
        assert result.returncode == 2 and part in result.stderr and result.stderr.count("\n") == 1, result.stderr
        assert not (tmp_path / "mean.pt").exists()

    fails_with("needs at least two checkpoints", tuned)
    headless = save_model(world, tmp_path / "headless.pt", overrides=["network.sim_header=None"])
    fails_with("names are in only one of them, such as fusion_model.", tuned, headless)
    wide = load_checkpoint(tuned)
    wide["model_state_dict"]["visual.proj"] = torch.zeros(64, 16)
    save_checkpoint(tmp_path / "wide.pt", wide)
    fails_with("visual.proj is (64, 16) instead of (64, 32)", tuned, tmp_path / "wide.pt")
    wide["model_state_dict"]["visual.proj"] = torch.full((64, 32), torch.nan)
    save_checkpoint(tmp_path / "nan.pt", wide)
    fails_with("nan.pt: visual.proj is not finite; leave this checkpoint out", tuned, tmp_path / "nan.pt")
    save_checkpoint(tmp_path / "names.pt", load_checkpoint(tuned) | {"class_names": ["a", "b", "c"]})
    fails_with("was trained on other classes", tuned, tmp_path / "names.pt")
    shifts = [save_model(world, tmp_path / f"{tm}.pt", config=f"network: {{tm: {tm}}}") for tm in ("tsm", "tokenshift")]
    fails_with("tokenshift.pt: was trained with network.tm: tokenshift, but", *shifts)
    ranks = [
        save_model(world, tmp_path / f"rank{rank}.pt", config=f"components: {{lora: {{rank: {rank}}}}}")
        for rank in (1, 2)
    ]
    fails_with("rank2.pt: was trained with components {'lora': {'rank': 2}}, but", *ranks)
    fails_with("cannot be written", tuned, tmp_path / "no.pt", out="/proc/x/y.pt")  # before a file is read
    fails_with("would replace a file that this command reads", tuned, tmp_path / "wide.pt", out="wide.pt")
