"""Checkpoints of the published code in the commands: as `--weights`, `pretrain` and `resume`."""

import json

import pytest
import torch
import yaml

from tests.commands.world import assert_same_predictions, call, losses, tiny_clip_state
from utils.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    path = tmp_path_factory.mktemp("trained")
    assert call("train", "--config", world.config, f"logging.run_dir={path}", "solver.epochs=2") == 0
    return path


@pytest.fixture(scope="module", params=["plain", "module.", "contrastive"])
def published(request, trained, tmp_path_factory):
    """The run's weights in the format of the published system after its first epoch."""
    state = load_checkpoint(trained / "last_model.pt")["model_state_dict"]
    head = {n.removeprefix("fusion_model."): t for n, t in state.items() if n.startswith("fusion_model.")}
    if request.param == "contrastive":
        whole = {**tiny_clip_state(), **{n: t for n, t in state.items() if not n.startswith("fusion_model.")}}
        content = {"epoch": 0, "model_state_dict": whole, "fusion_model_state_dict": head, "optimizer_state_dict": {}}
    else:
        prefix = "" if request.param == "plain" else "module."
        renamed = {f"{prefix}{name}": tensor for name, tensor in state.items()}
        content = {"epoch": 0, "model_state_dict": renamed, "optimizer_state_dict": {}}
    path = tmp_path_factory.mktemp("published") / "published.pt"
    torch.save(content, path)
    return path


def test_as_weights(world, trained, published, tmp_path):
    for name, weights in (("ours", trained / "last_model.pt"), ("theirs", published)):
        arguments = ("--config", world.config, "--weights", weights, "--out", tmp_path / name)
        assert call("test", *arguments) == 0
    assert_same_predictions(*((tmp_path / n / "predictions.csv").read_text().splitlines() for n in ("ours", "theirs")))
    assert json.loads((tmp_path / "theirs" / "summary.json").read_text())["num_videos"] == 9


def test_as_resume(world, published, tmp_path, capsys):
    arguments = ("--config", world.config, f"logging.run_dir={tmp_path}", f"resume={published}", "solver.epochs=2")
    assert call("train", *arguments) == 0
    assert "the optimiser starts from scratch" in capsys.readouterr().out
    # The first epoch is done: only the eight steps of the second are trained.
    assert len(losses(tmp_path)) == 8 and load_checkpoint(tmp_path / "last_model.pt")["progress"]["step"] == 16


def test_as_pretrain_with_other_classes(world, published, tmp_path):
    (tmp_path / "labels.csv").write_text("id,name\n0,a\n1,b\n2,c\n3,d\n")
    config = yaml.safe_load(world.config.read_text())
    config["data"] |= {"label_list": str(tmp_path / "labels.csv"), "num_classes": 4}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = ("--config", tmp_path / "config.yaml", f"logging.run_dir={tmp_path / 'run'}", f"pretrain={published}")
    assert call("train", *arguments, "solver.lr=1e-12") == 0
    found = load_checkpoint(tmp_path / "run" / "last_model.pt")
    start = torch.load(published, weights_only=True)["model_state_dict"]
    start = {name.removeprefix("module."): tensor for name, tensor in start.items()}
    torch.testing.assert_close(found["model_state_dict"]["visual.proj"], start["visual.proj"])
    assert found["epoch"] == 0 and found["class_names"] == ["a", "b", "c", "d"]


def test_another_head_is_a_named_error(world, published, capsys):
    assert call("test", "--config", world.config, "--weights", published, "network.head_layers=3") == 2
    assert "6 layers and the config's 3; set network.head_layers to 6" in capsys.readouterr().err
