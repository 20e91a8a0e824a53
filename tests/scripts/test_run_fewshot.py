"""scripts/run_fewshot.sh: runs are not reused for other selections. For scores see tests/commands/test_commands.py."""

import os
import subprocess
import sys

import pytest

from tests.commands.errors_page import matches, rows_of
from tests.commands.world import REPO, command

ROWS = rows_of("Few-shot runs")


def fewshot(*words, **environment):
    return command("sh", "scripts/run_fewshot.sh", *words, **environment)


@pytest.fixture
def note_taker(tmp_path):
    """In Python's place: writes down what it would run, but for the reading of the config."""
    path = tmp_path / "python"
    path.write_text(
        f'#!/bin/sh\n[ "$2" != tools.show_config ] || exec {sys.executable} "$@"\necho "$@" >> {tmp_path}/calls\n'
    )
    path.chmod(0o755)
    return path


def test_the_folder_is_named_after_the_shot(note_taker, tmp_path):
    for words in (("data.shot=2",), ("--quiet", "data.shot=4")):
        result = fewshot("configs/shapes/transf.yaml", "0 7", *words, PYTHON=str(note_taker), NPROC="1")
        assert result.returncode == 0, result.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    for shot, (first, second, table) in ((2, calls[:3]), (4, calls[3:])):
        folder = f"exp_fewshot/shapes/shapes_clip/f8_shot{shot}"
        assert f"data.shot_seed=0 logging.run_dir={folder}/seed0 resume=auto" in first
        assert f"data.shot_seed=7 logging.run_dir={folder}/seed7 resume=auto" in second
        assert table == f"-m tools.summarise_runs {folder}/seed0 {folder}/seed7"


def test_a_config_in_the_current_folder(note_taker, tmp_path):
    (tmp_path / "my.yaml").write_text((REPO / "configs/shapes/transf.yaml").read_text())
    result = subprocess.run(
        ["sh", str(REPO / "scripts/run_fewshot.sh"), "my.yaml", "0", "data.shot=2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": str(note_taker), "NPROC": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert f"--config {tmp_path}/my.yaml" in (tmp_path / "calls").read_text()


def test_a_run_that_is_refused_ends_the_series(note_taker, tmp_path):
    """As one of another `data.shot` in the same folder is (tests/commands/test_errors_runs.py)."""
    with note_taker.open("a") as file:
        file.write("case $1 in train.py) exit 2 ;; esac\n")
    result = fewshot("configs/shapes/transf.yaml", "0 7", "data.shot=2", PYTHON=str(note_taker), NPROC="1")
    assert result.returncode == 2
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.startswith("train.py ") and "data.shot_seed=0" in call


CASES = {
    "no shot": ("0 1",),
    "no seeds": ("one", "data.shot=2"),
    "a key that each run has its own of": ("0 1", "data.shot=2", "data.shot_seed=3"),
    "--check": ("0 1", "data.shot=2", "--check"),
}


@pytest.mark.parametrize("name", list(ROWS))
def test_mistakes_are_one_line_errors(name, tmp_path):
    result = fewshot("configs/shapes/transf.yaml", *CASES[name], FOLDER=str(tmp_path / "few"))
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert matches(ROWS[name], result.stderr.strip()) and not (tmp_path / "few").exists()


def test_each_row_has_its_case():
    assert set(ROWS) == set(CASES)
