"""Every scorer in training, test, scoring of a saved table, and the report."""

import json

import numpy as np
import pytest
import torch

from modules.embed import load_table
from modules.scorers.scorer import scorer_of
from tests.commands.world import call
from tests.tools.loading import load_tool
from utils.checkpoint import load_checkpoint
from utils.cli import run_command
from utils.metrics import class_logits

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


def test_a_table_contains_what_the_scorer_needs(trained, world, capsys):
    folder, name, shape = trained
    weights, out = folder / "last_model.pt", folder / "test"
    views = ("--test_clips", "2", "--test_crops", "3")
    assert call("test", "--weights", weights, "--out", out, *views) == 0
    assert " MB in memory, " in capsys.readouterr().out
    table, text, _ = load_table(out / "embeddings.npz")
    assert table.embeddings.shape == shape
    summary = json.loads((out / "summary.json").read_text())
    assert summary["config"]["network"]["scorer"] == name
    logits = scorer_of(table, out, text).table_logits(table.embeddings, text)
    assert summary["top1"] == 100 * (logits.argmax(axis=1) == table.labels).mean()
    assert call("report", folder) == 0

    reuse = ("test_zeroshot", "--config", world.config, "--reuse", out / "embeddings.npz", "--out", folder / "again")
    if name == "linear":
        assert call(*reuse) == 2 and "text tower was trained" in capsys.readouterr().err
        return
    assert call(*reuse) == 0
    (again,) = json.loads((folder / "again" / "summary.json").read_text())["tests"].values()
    assert again["full_top1"] == summary["top1"]
    table, other, _ = load_table(folder / "again" / "embeddings.npz")
    np.testing.assert_array_equal(other, text)


def test_predictions_equal_those_of_the_test(trained, world, capsys):
    folder, _, _ = trained
    assert call("predict", "--weights", folder / "last_model.pt", str(world.root / "frames" / "val_0_0")) == 0
    assert "riding a bike" in capsys.readouterr().out


def test_export_names_the_supported_models(trained, capsys):
    folder, name, _ = trained
    assert call("export", "--weights", folder / "last_model.pt", "--format", "safetensors") == 2
    assert f"network.scorer {name}: export is not supported" in capsys.readouterr().err


def test_a_mixture_with_clip_and_its_curve(trained, world, tmp_path, capsys):
    """Like the tests of MoTE: 0.99 of the fine-tuned weights and 0.01 of CLIP's; the curve uses the model's scorer."""
    folder, name, shape = trained
    tool = load_tool("interpolate")
    words = ["--weights", folder / "last_model.pt", "--head", "keep", "--save", "0.99", tmp_path / "mixed.pt"]
    arguments = tool.parse_arguments(
        [str(word) for word in (*words, "--alphas", "0.99,1", "--out", tmp_path / "curve")]
    )
    assert run_command(tool.main, arguments) == 0
    mixed, tuned = (load_checkpoint(path)["model_state_dict"] for path in (tmp_path / "mixed.pt", words[1]))
    assert mixed.keys() == tuned.keys()
    assert all(torch.equal(mixed[key], tuned[key]) for key in tuned if key.startswith(("fusion_model.", "scorer.")))
    assert not torch.equal(mixed["visual.proj"], tuned["visual.proj"])
    (scores,) = json.loads((tmp_path / "curve" / "curve.json").read_text())["scores"].values()
    for weights, expected in ((tmp_path / "mixed.pt", scores[0]), (words[1], scores[1])):
        assert call("test", "--weights", weights, "--out", tmp_path / "test") == 0
        assert json.loads((tmp_path / "test" / "summary.json").read_text())["top1"] == expected["top1"]


def test_other_classes_with_and_without_modulation(world, tmp_path):
    folder = tmp_path / "run"
    assert call("train", "--config", world.config, f"logging.run_dir={folder}", *SCORERS["modulated"][0]) == 0
    (tmp_path / "labels.csv").write_text("id,name\n0,juggling\n1,diving\n2,swimming\n")
    options = (
        "--config",
        world.config,
        "--weights",
        folder / "last_model.pt",
        f"data.label_list={tmp_path}/labels.csv",
    )
    assert call("test_zeroshot", *options, "--out", tmp_path / "with") == 0
    assert call("test_zeroshot", *options, "--out", tmp_path / "without", "network.scorer=cosine") == 0
    (table, text, _), (plain, _, _) = (load_table(tmp_path / n / "embeddings.npz") for n in ("with", "without"))
    np.testing.assert_allclose(table.embeddings[:, 0].sum(axis=1), plain.embeddings, rtol=1e-4, atol=1e-4)
    scorer = scorer_of(table, tmp_path, text)
    modulation = scorer.modulation(torch.from_numpy(table.embeddings[:, 0, 0]), torch.from_numpy(text)).numpy()
    assert (modulation < 1).all()
    videos = table.embeddings[:, 0, 0] + modulation[:, None] * table.embeddings[:, 0, 1]
    np.testing.assert_allclose(
        scorer.table_logits(table.embeddings, text), class_logits(videos, text), rtol=1e-3, atol=1e-3
    )
