"""Training and testing an adapter, with checkpoints that contain only the trained parameters."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from inference.model import VideoModel, read_checkpoint
from tests.commands.world import call, losses, tiny_clip_state
from utils.checkpoint import load_checkpoint
from utils.hashing import content_hash

DEMO = ["network.arch=clip/shapes_clip.pt", "data.input_size=64"]  # the demo's CLIP
ALL = ["solver.precision=bf16", "solver.grad_accumulation_steps=2", "solver.ema=0.5"]
RUNS = {
    "st_adapter": [*DEMO, "components.st_adapter.width=32"],
    "aim": ["components.aim.drop_path=0.2"],
    "deep_prompts": ["components.deep_prompts.tokens=2"],
    "lora": ["solver.activation_checkpointing=true", "solver.lr=0.02"],
    "bitfit": ["solver.clip_ratio=1"],
}


def train(world, run_dir, adapter, *overrides):
    own = ["network.sim_header=None", f"network.adapter={adapter}", "solver.save=trained"]
    own += [*ALL, *RUNS[adapter], *overrides]
    return call("train", "--config", world.config, f"logging.run_dir={run_dir}", *own)


@pytest.mark.parametrize("adapter", RUNS)
def test_it_trains_resumes_bit_equal_and_tests(world, tmp_path, adapter):
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    assert train(world, uninterrupted, adapter, "solver.epochs=2", "solver.keep_last=3") == 0
    assert (uninterrupted / "last_model.pt").stat().st_size < 1e6
    state = load_checkpoint(uninterrupted / "last_model.pt")
    trained = "logit_scale", adapter, *(["ln_post"] if adapter == "aim" else [])
    assert adapter in ("bitfit", "deep_prompts") or all(
        any(part in name for part in trained) for name in state["model_state_dict"]
    )
    resumed.mkdir()
    shutil.copy(uninterrupted / "last_model.1.pt", resumed / "last_model.pt")  # after the first epoch
    assert train(world, resumed, adapter, "solver.epochs=2", "resume=auto") == 0
    assert losses(resumed) == losses(uninterrupted)[len(losses(uninterrupted)) // 2 :]
    for name in ("model_state_dict", "optimizer_state_dict"):
        assert content_hash(load_checkpoint(resumed / "last_model.pt")[name]) == content_hash(state[name])
    tests = "--config", world.config, "--weights", uninterrupted / "last_model.pt", "--out", tmp_path / "test"
    assert call("test", *tests) == 0
    assert json.loads((tmp_path / "test" / "summary.json").read_text())["num_videos"] == 9
    exported = tmp_path / "model.safetensors"
    exports = "--weights", uninterrupted / "last_model.pt", "--format", "safetensors", "--out", exported
    assert call("export", *exports) == 0
    names = set(load_file(exported))
    assert any(adapter in name for name in names) == (
        adapter in ("st_adapter", "aim", "deep_prompts")
    )  # others are merged
    check_mixtures(uninterrupted / "last_model.pt", uninterrupted / "last_model.1.pt", tmp_path)


def weights_of(path):
    """The weights of a checkpoint as used in tests, with LoRA merged."""
    checkpoint = read_checkpoint(path)
    cfg = checkpoint.config(None, [], "test").config
    return VideoModel(cfg, checkpoint.class_names, checkpoint, torch.device("cpu")).network.state_dict()


def check_mixtures(last, before, folder):
    """Averages and interpolations are computed from the merged weights, not from LoRA's factors."""
    assert call("tools/average_checkpoints", last, before, "--out", folder / "mean.pt") == 0
    for alpha in ("0", "0.3"):
        words = "--weights", last, "--head", "fade", "--save", alpha, folder / f"{alpha}.pt"
        assert call("tools/interpolate", *words) == 0
    names = "mean.pt", "0.pt", "0.3.pt"
    assert all((folder / name).stat().st_size < 1e6 for name in names)
    first, second, mean, start, mixed = map(weights_of, (last, before, *(folder / name for name in names)))
    for name, value in first.items():
        torch.testing.assert_close(mean[name], (value + second[name]) / 2)
        torch.testing.assert_close(mixed[name], 0.7 * start[name] + 0.3 * value)


def test_frozen_weights_of_another_run_cannot_be_left_out(world, tmp_path, capsys):
    """If an adapter is trained on a fully tuned model, the frozen weights are not those of `network.arch`."""
    full = "network.sim_header=None", f"logging.run_dir={tmp_path / 'full'}"
    assert call("train", "--config", world.config, *full) == 0
    assert train(world, tmp_path / "adapter", "lora", f"pretrain={tmp_path / 'full' / 'last_model.pt'}") == 2
    assert "set solver.save=all" in capsys.readouterr().err
    pretrain = f"pretrain={tmp_path / 'full' / 'last_model.pt'}"
    assert train(world, tmp_path / "adapter", "lora", pretrain, "solver.save=all") == 0
    assert "contains no weights of network.adapter: lora, which start from scratch" in capsys.readouterr().out


def test_another_clip_is_a_one_line_error(world, tmp_path, capsys):
    assert train(world, tmp_path, "lora") == 0
    torch.save(tiny_clip_state(seed=1), tmp_path / "other.pt")
    arguments = "--weights", tmp_path / "last_model.pt", "--config", world.config
    assert call("test", *arguments, f"network.arch={tmp_path / 'other.pt'}") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "other frozen weights" in line]
    assert "set network.arch and network.weights to" in line
