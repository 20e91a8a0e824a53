"""Checkpoints contain their recipe: each command on a model trained with overrides, with and without the config."""

import json
import sys

import pytest
import torch
import yaml

import engine.app
from modules.embed import load_table
from tests.commands.world import CLASSES, call, command, entry_script
from tests.faults_of import error_line
from utils.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def config(world, tmp_path_factory):
    """A config with another model than the trained one; its weights would have to be downloaded."""
    tree = yaml.safe_load(world.config.read_text())
    tree["network"]["arch"] = "ViT-B/32"
    tree["data"]["input_size"] = 224
    path = tmp_path_factory.mktemp("recipe") / "mine.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def weights(world, config, tmp_path_factory):
    path = tmp_path_factory.mktemp("trained")
    overrides = (f"network.arch={world.arch}", "data.input_size=32", "network.head_layers=2")
    assert call("train", "--config", config, *overrides, f"logging.run_dir={path}") == 0
    return path / "last_model.pt"


@pytest.fixture(scope="module")
def other_data(world, tmp_path_factory):
    """The config of another data set, with only a `data` section."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "labels.csv").write_text("id,name\n0,juggling\n1,diving\n2,cooking\n")
    data = yaml.safe_load(world.config.read_text())["data"]
    kept = {name: data[name] for name in ("val_root", "val_list", "num_classes", "workers")}
    (folder / "other.yaml").write_text(yaml.safe_dump({"data": {**kept, "label_list": str(folder / "labels.csv")}}))
    return folder / "other.yaml"


def test_tests_run_with_and_without_the_training_config(config, weights, tmp_path, capsys):
    assert call("test", "--config", config, "--weights", weights, "--out", tmp_path / "with") == 0
    assert call("test", "--weights", weights) == 0
    printed = capsys.readouterr().out
    (warning,) = [line for line in printed.splitlines() if line.startswith("warning")]
    assert "network.arch" in warning and "data.input_size 32 " in warning and "ViT-B/32" in warning
    without = weights.parent / "test_1x1"
    assert (tmp_path / "with" / "predictions.csv").read_text() == (without / "predictions.csv").read_text()
    summary = json.loads((without / "summary.json").read_text())
    assert summary["config"]["data"]["input_size"] == 32 and summary["num_classes"] == 3
    assert call("report", weights.parent) == 0
    assert "no film strips" not in capsys.readouterr().err


def test_the_launchers_take_the_weights_alone(config, weights, other_data, tmp_path, capsys):
    """With `echo` as Python, whose output is the command to run."""
    for number, (script, files) in enumerate(
        (("test", (weights,)), ("test", (config, weights)), ("test_zeroshot", (other_data, weights)))
    ):
        launcher = ("sh", f"scripts/run_{script}.sh", *files, "--out", tmp_path / str(number))
        program, *words = command(*launcher, PYTHON="echo", NPROC="1").stdout.split()
        assert program == f"{script}.py" and call(script, *words) == 0
        assert "top-1" in capsys.readouterr().out
    for files in ((config,), (config, tmp_path / "no.pt"), ()):
        result = command("sh", "scripts/run_test.sh", *files)
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr


def test_zero_shot_with_the_data_alone_and_again_from_its_table(config, weights, other_data, tmp_path):
    assert call("test_zeroshot", "--config", other_data, "--weights", weights, "--out", tmp_path / "a") == 0
    table = tmp_path / "a" / "embeddings.npz"
    assert load_table(table)[2] == ["juggling", "diving", "cooking"]
    assert yaml.safe_load(load_table(table)[0].recipe)["network"]["head_layers"] == 2
    again = ("test_zeroshot", "--config", other_data, "--reuse", table)
    assert call(*again, "--out", tmp_path / "b") == 0
    assert call(*again, "--out", tmp_path / "c", "network.prompt=quite {}") == 0
    first, second, third = (json.loads((tmp_path / n / "summary.json").read_text())["tests"] for n in "abc")
    assert first == second
    assert next(iter(third.values()))["prompt"] == "quite {}"


def test_export_takes_the_weights_alone(config, weights, tmp_path, capsys):
    for name, files in (("a", ("--weights", weights)), ("b", ("--config", config, "--weights", weights))):
        out = ("--format", "safetensors", "--out", tmp_path / name)
        assert call("export", *files, *out) == 0
        assert "4 frames of 32x32, 3 classes" in capsys.readouterr().out


def test_predict_and_app_take_the_weights_alone(world, config, weights, tmp_path, capsys):
    video, found = world.root / "videos" / "val_0_0.mp4", []
    for options in ((), ("--config", config)):
        assert call("predict", video, "--weights", weights, *options, "--json", tmp_path / "r.json", "--quiet") == 0
        found.append(json.loads((tmp_path / "r.json").read_text()))
    assert found[0] == found[1] and found[0]["classes"] == list(CLASSES)
    app = entry_script("app")
    args = app.parse_arguments(["--weights", str(weights)])
    app.check_arguments(args)
    service, samples = engine.app.load_service(args, str(tmp_path))
    assert service.model.class_names == list(CLASSES) and not samples
    assert call("predict", video, "--weights", weights, "network.sim_header=None") == 2
    assert "was trained with Transf; remove network.sim_header" in capsys.readouterr().err


def test_checkpoints_of_others_need_a_config(world, config, weights, tmp_path, capsys):
    state = {"model_state_dict": load_checkpoint(weights)["model_state_dict"]}
    torch.save(state, tmp_path / "theirs.pt")
    for arguments in (
        ("test", "--weights", tmp_path / "theirs.pt"),
        ("export", "--weights", tmp_path / "theirs.pt", "--format", "onnx"),
        ("predict", world.root / "videos" / "val_0_0.mp4", "--weights", tmp_path / "theirs.pt"),
    ):
        error = error_line(call(*arguments), capsys)
        assert "theirs.pt: contains no config" in error and "network.arch" in error
    overrides = (f"network.arch={world.arch}", "data.input_size=32", "network.head_layers=2")
    assert call("test", "--config", config, "--weights", tmp_path / "theirs.pt", *overrides) == 0


def test_weights_that_are_not_finite_give_the_same_error_everywhere(world, weights, tmp_path, capsys):
    raw = load_checkpoint(weights)
    raw["model_state_dict"]["visual.proj"][0] = torch.nan
    torch.save(raw, tmp_path / "nan.pt")
    message = "its embedding is zero or not finite, because of the weights or the precision"
    assert call("test", "--weights", tmp_path / "nan.pt") == 2
    assert message in capsys.readouterr().err
    video = world.root / "videos" / "val_0_0.mp4"
    assert call("predict", video, "--weights", tmp_path / "nan.pt", "--csv", tmp_path / "r.csv") == 2
    assert f"error: {video}: {message}" in capsys.readouterr().err and "nan" not in (tmp_path / "r.csv").read_text()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("train.py --config CONFIG data.train_list=no.txt", "no.txt: no such file; set data.train_list"),
        ("train.py --config CONFIG data.train_root=no", "no: no such folder; set data.train_root"),
        ("test.py --weights WEIGHTS data.val_list=no.txt", "no.txt: no such file; set data.val_list"),
        ("train.py --config CONFIG pretrain=no.pt", "no.pt: no such checkpoint file"),
        ("test.py --weights no.pt", "no.pt: no such checkpoint file"),
        ("test_zeroshot.py --config CONFIG --weights WEIGHTS --lists no.txt", "no.txt: no such file"),
        (
            "export.py --weights WEIGHTS --format onnx data.label_list=no.csv",
            "no.csv: no such file; set data.label_list",
        ),
        ("predict.py no.mp4 --weights WEIGHTS", "no.mp4: no such video file or folder of frames"),
        ("predict.py configs --weights WEIGHTS", "configs: contains neither videos nor images"),
        ("app.py --weights no.pt", "no.pt: no such checkpoint file"),
    ],
)
def test_files_are_checked_before_torch_is_imported(world, weights, tmp_path, words, part):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    known = {"CONFIG": world.config, "WEIGHTS": weights}
    result = command(sys.executable, *(known.get(word, word) for word in words.split()), PYTHONPATH=str(tmp_path))
    assert result.returncode == 2 and result.stderr.startswith(f"error: {part}"), result.stderr
    assert result.stderr.count("\n") == 1
