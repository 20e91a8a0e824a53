"""Relative paths of a config start from the repository, whatever the current folder."""

import shutil

import pytest
import yaml

from tests.commands.world import REPO, call
from utils.config import dump_config, load_config

LISTS = {"label_list": "lists/ucf_labels.csv", "train_list": "lists/none.txt", "val_root": "lists"}


def dotted(config, *names):
    return tuple(getattr(getattr(config, name.split(".")[0]), name.split(".")[1]) for name in names)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump({"data": LISTS, "network": {"arch": "clip/shapes_clip.pt"}, "resume": "auto"}))
    return path


def test_in_the_repository_paths_are_unchanged(config, monkeypatch):
    monkeypatch.chdir(REPO)
    loaded = load_config(config, purpose="predict").config
    assert dotted(loaded, "data.label_list", "logging.cache_dir") == (LISTS["label_list"], "exp/cache")


def test_elsewhere_paths_start_from_the_repository(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = load_config(config, ["logging.run_dir=exp/mine"], "predict").config
    assert dotted(loaded, "data.label_list", "data.train_list", "data.val_root", "logging.run_dir") == (
        f"{REPO}/{LISTS['label_list']}", f"{REPO}/lists/none.txt", f"{REPO}/lists", f"{REPO}/exp/mine",
    )  # fmt: skip
    # Defaults too; an empty root is the repository itself.
    assert dotted(loaded, "data.train_root", "logging.cache_dir") == (str(REPO), f"{REPO}/exp/cache")


def test_absolute_paths_and_names_are_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["network.arch=ViT-B/32", "network.weights=openai", "network.prompt_set=action16", "resume=auto"]
    loaded = load_config(None, [*names, "data.val_list=/data/val.txt"], "predict").config
    assert dotted(loaded, "network.arch", "network.weights", "network.prompt_set", "data.val_list") == (
        "ViT-B/32", "openai", "action16", "/data/val.txt",
    )  # fmt: skip
    assert loaded.resume == "auto"
    assert loaded.network.classifier_file is None


def test_a_name_that_is_a_file_of_the_repository_is_a_path(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(config, purpose="predict").config.network.arch == f"{REPO}/clip/shapes_clip.pt"


def test_a_saved_config_is_the_same_wherever_the_run_was_started(config, tmp_path, monkeypatch):
    monkeypatch.chdir(REPO)
    here = dump_config(load_config(config, purpose="predict").config)
    monkeypatch.chdir(tmp_path)
    loaded = load_config(config, purpose="predict").config
    assert dump_config(loaded) == here
    config.write_text(here)
    assert load_config(config, purpose="predict").config == loaded


def test_train_and_test_from_another_folder(world, tmp_path, monkeypatch, capsys):
    """The path of the config starts from the current folder, the paths in it from the repository."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(world.config, folder / "my.yaml")
    monkeypatch.chdir(folder)
    options = ["--config", "my.yaml", "network.arch=clip/shapes_clip.pt", "data.input_size=64"]
    assert call("train", *options, f"logging.run_dir={tmp_path / 'run'}") == 0, capsys.readouterr().err
    assert call("test", *options, "--weights", "../run/last_model.pt", "--out", "result") == 0, capsys.readouterr().err
    assert (folder / "result" / "summary.json").is_file()
    assert "clip/shapes_clip.pt" in (tmp_path / "run" / "config.yaml").read_text()
    assert str(REPO) not in (tmp_path / "run" / "config.yaml").read_text()
