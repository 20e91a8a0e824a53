"""Every scorer through training, test, another scoring of the table, and the report."""

import json

import numpy as np
import pytest

from modules.scorers.scorer import scorer_of
from tests.commands.world import call
from utils.embed import load_table

# Settings, and the axes of a table of two clips by three crops of four frames.
SCORERS = {
    "vcs": (["network.scorer=vcs", "solver.loss_type=NCE"], (9, 6, 4, 32)),
    "modulated": (["network.scorer=modulated", "network.sim_header=MoTE", "solver.loss_type=mixture"], (9, 6, 2, 32)),
    "xclip": (["network.scorer=xclip", "network.sim_header=MIT", "network.tm=message"], (9, 6, 17, 32)),
    "linear": (["network.scorer=linear", "network.train_classifier=true"], (9, 32)),
}


@pytest.fixture(scope="module", params=SCORERS)
def trained(request, world, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    changes, shape = SCORERS[request.param]
    assert call("train", "--config", world.config, f"logging.run_dir={path}", *changes) == 0
    return path, request.param, shape


def test_a_table_holds_what_the_scorer_needs(trained, world, capsys):
    folder, name, shape = trained
    weights, out = folder / "last_model.pt", folder / "test"
    views = ("--test_clips", "2", "--test_crops", "3")
    assert call("test", "--weights", weights, "--out", out, *views) == 0
    assert " MB in memory, " in capsys.readouterr().out
    table, text, _ = load_table(out / "embeddings.npz")
    assert table.embeddings.shape == shape
    summary = json.loads((out / "summary.json").read_text())
    assert summary["config"]["network"]["scorer"] == name
    logits = scorer_of(table).table_logits(table.embeddings, text)
    assert summary["top1"] == 100 * (logits.argmax(axis=1) == table.labels).mean()
    assert call("report", folder) == 0

    reuse = ("test_zeroshot", "--config", world.config, "--reuse", out / "embeddings.npz", "--out", folder / "again")
    if name == "linear":
        assert call(*reuse) == 2 and "the text side trained" in capsys.readouterr().err
        return
    assert call(*reuse) == 0
    (again,) = json.loads((folder / "again" / "summary.json").read_text())["tests"].values()
    assert again["full_top1"] == summary["top1"]
    table, other, _ = load_table(folder / "again" / "embeddings.npz")
    np.testing.assert_array_equal(other, text)


def test_a_prediction_is_what_the_test_says(trained, world, capsys):
    folder, _, _ = trained
    assert call("predict", "--weights", folder / "last_model.pt", str(world.root / "frames" / "val_0_0")) == 0
    assert "riding a bike" in capsys.readouterr().out


def test_export_says_which_models_it_takes(trained, capsys):
    folder, name, _ = trained
    assert call("export", folder / "last_model.pt", "--format", "safetensors") == 2
    assert f"network.scorer {name}: models with it cannot be exported" in capsys.readouterr().err
