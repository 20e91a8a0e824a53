"""Run folders, and the commands in the last lines of a run."""

from pathlib import Path

import pytest

from engine.rundir import choose_run_dir, default_run_dir, describe_end
from utils.config import load_config
from utils.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"


def load(name, *overrides):
    return load_config(CONFIGS / name, list(overrides)).config


def test_default_folders_are_those_of_the_published_system(tmp_path):
    b32, few_shot = "k400/k400_train_rgb_vitb-32-f8.yaml", "hmdb51/hmdb_few_shot.yaml"
    assert default_run_dir(load(b32)) == Path("exp/k400/ViT-B/32/f8")
    assert default_run_dir(load(b32, "data.num_segments=4", "data.seg_length=3")) == Path("exp/k400/ViT-B/32/f12")
    assert default_run_dir(load(b32), "20240101") == Path("exp/k400/ViT-B/32/20240101")
    assert default_run_dir(load(few_shot, "data.shot=2", "data.shot_seed=3")) == Path(
        "exp_fewshot/hmdb51/ViT-L/14/f8_shot2/seed3"
    )
    assert default_run_dir(load(few_shot), "001") == Path("exp_fewshot/hmdb51/ViT-L/14/001")
    (tmp_path / "my_clip.pt").touch()
    assert default_run_dir(load(b32, f"network.arch={tmp_path / 'my_clip.pt'}")) == Path("exp/k400/my_clip/f8")


def test_a_folder_with_a_run_is_not_modified(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("utils.project_paths.REPOSITORY", tmp_path)
    folder = Path("exp/k400/ViT-B/32/f8")
    b32 = "k400/k400_train_rgb_vitb-32-f8.yaml"
    assert choose_run_dir(load(b32)) == folder
    folder.mkdir(parents=True)
    (folder / "last_model.pt").touch()
    with pytest.raises(
        UserError, match="exp/k400/ViT-B/32/f8 already contains a run; add resume=auto .* logging.run_dir="
    ):
        choose_run_dir(load(b32))
    assert choose_run_dir(load(b32, "resume=auto")) == folder
    assert choose_run_dir(load(b32, "solver.evaluate=true")) == folder  # writes nothing
    assert choose_run_dir(load(b32), "second") == folder.with_name("second")
    assert choose_run_dir(load(b32, "logging.run_dir=here")) == Path("here")
    assert choose_run_dir(load(b32, "resume=there/last_model.pt")) == Path("there")
    with pytest.raises(UserError, match="the run folder is also given by logging.run_dir"):
        choose_run_dir(load(b32, "logging.run_dir=here"), "001")


def test_the_last_lines_are_the_next_commands(tmp_path):
    (tmp_path / "last_model.pt").touch()
    lines = describe_end(tmp_path, 1.0).splitlines()
    assert lines[-3:] == [
        "next:",
        f"  sh scripts/run_test.sh {tmp_path}/last_model.pt",
        f"  python report.py {tmp_path}",
    ]
    (tmp_path / "best_model.pt").touch()
    assert f"{tmp_path}/best_model.pt" in describe_end(tmp_path, 1.0).splitlines()[-2]
