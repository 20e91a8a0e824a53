"""scripts/common.sh and the launchers: finding files, number of processes, environment."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.errors_page import matches, rows_of
from tests.commands.world import REPO

MULTINODE = {"MASTER_ADDR": "127.0.0.1"}


def launch(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """A launcher of the repository called from `folder`; it prints what it would start."""
    base = {k: v for k, v in os.environ.items() if k not in ("NPROC", "MAX_RESTARTS", "NNODES", "MASTER_PORT")}
    return subprocess.run(
        ["sh", f"{REPO}/scripts/{words[0]}", *words[1:]],
        cwd=folder,
        env={**base, "PYTHON": "echo", "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "my folder"
    path.mkdir()
    for name in ("my.yaml", "other.yaml", "a.pt", "b.pt"):
        (path / name).touch()
    return path


def test_files_are_found_where_the_command_was_typed(folder):
    options = "a.x=1 --out there"  # all other paths start from the repository
    calls = {
        ("run_train.sh", "my.yaml"): f"train.py --config {folder}/my.yaml {options}",
        ("run_test.sh", "my.yaml", "a.pt"): f"test.py --config {folder}/my.yaml --weights {folder}/a.pt {options}",
        ("run_test_zeroshot.sh", "my.yaml,other.yaml", "a.pt"): (
            f"test_zeroshot.py --weights {folder}/a.pt {options} --config {folder}/my.yaml --config {folder}/other.yaml"
        ),
        ("run_train_multinodes.sh", "my.yaml", "1"): (
            "scripts/launch.py --nnodes 2 --node_rank 1 --nproc_per_node 1 --master_addr 127.0.0.1 --master_port 29500 "
            f"train.py --config {folder}/my.yaml {options}"
        ),
    }
    for words, expected in calls.items():
        result = launch(folder, *words, *options.split(), **MULTINODE)
        assert result.stdout.strip() == expected and result.stderr == ""


@pytest.mark.parametrize("name", ["run_demo.sh", "run_tests.sh"])
def test_help_of_launchers_that_install_comes_first(folder, name):
    result = launch(folder, name, "--help", PATH=f"{fake_python(folder)}:{os.environ['PATH']}")
    assert result.returncode == 0 and f"sh scripts/{name}" in result.stdout and "#" not in result.stdout
    assert not (folder / "ran").exists()


def fake_python(folder: Path) -> Path:
    """A folder with a `python` that records that it ran."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ("python", "python3"):
        (programs / name).write_text(f"#!/bin/sh\ntouch '{folder}/ran'\n")
        (programs / name).chmod(0o755)
    return programs


def test_and_then_in_the_repository(folder):
    shipped = "configs/shapes/transf.yaml"
    for place in (folder, REPO):
        assert launch(place, "run_train.sh", shipped).stdout.strip() == f"train.py --config {shipped}"


def test_options_alone_go_to_the_script(folder):
    scripts = {"run_train.sh": "train.py", "run_test.sh": "test.py", "run_test_zeroshot.sh": "test_zeroshot.py"}
    for launcher, script in {**scripts, "run_train_multinodes.sh": "train.py"}.items():
        assert launch(folder, launcher, "--quiet", "a=b").stdout.strip() == f"{script} --quiet a=b"


def test_machine_0_needs_no_address_and_tells_the_others_its_own(folder):
    base = {k: v for k, v in os.environ.items() if k != "MASTER_ADDR"}
    words = ["sh", f"{REPO}/scripts/run_train_multinodes.sh", "my.yaml"]
    first, second = (
        subprocess.run([*words, rank], cwd=folder, env={**base, "PYTHON": "echo"}, capture_output=True, text=True)
        for rank in "01"
    )
    address = first.stdout.split("--master_addr ")[1].split()[0]
    again = f"MASTER_ADDR={address} sh scripts/run_train_multinodes.sh {folder}/my.yaml NODE_RANK"
    assert first.stderr.strip() == f"on the other machines: {again}"
    assert second.returncode == 2 and second.stderr.startswith(
        "error: MASTER_ADDR is not set; give machine 0's address"
    )


ROWS = rows_of("Launchers")
CASES = [  # row, script, words, variables
    ("no such config", "run_train.sh", ["nowhere.yaml"], {}),
    ("several weights files", "run_test.sh", ["my.yaml", "a.pt", "b.pt", "--quiet"], {}),
    ("several weights files", "run_test_zeroshot.sh", ["my.yaml", "a.pt", "b.pt"], {}),
    ("NPROC is not a number", "run_train.sh", ["my.yaml"], {"NPROC": "two"}),
    ("NPROC is not a number", "run_test.sh", ["my.yaml", "a.pt"], {"NPROC": "two"}),
    ("NPROC is not a number", "run_train_multinodes.sh", ["my.yaml", "0"], {"NPROC": "two"}),
    ("MAX_RESTARTS is not a number", "run_train.sh", ["my.yaml"], {"MAX_RESTARTS": "often"}),
    ("NNODES is not a number", "run_train_multinodes.sh", ["my.yaml", "0"], {"NNODES": "abc"}),
    ("MASTER_PORT is not a port", "run_train_multinodes.sh", ["my.yaml", "0"], {"MASTER_PORT": "70000"}),
]


@pytest.mark.parametrize(("row", "script", "words", "variables"), CASES)
def test_mistakes_are_one_line_errors(folder, row, script, words, variables):
    result = launch(folder, script, *words, **MULTINODE | variables)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1 and matches(ROWS[row], result.stderr.strip())


def test_each_row_has_its_case():
    assert set(ROWS) == {row for row, *_ in CASES}


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "9" * 20, "2 3"])
def test_invalid_numbers_of_processes(folder, value):
    result = launch(folder, "run_train.sh", "my.yaml", NPROC=value)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"error: NPROC is '{value}'; it must be an integer from 1 to 4096\n"


def test_numbers_reach_torchrun(folder):
    result = launch(folder, "run_train.sh", "my.yaml", NPROC="2", MAX_RESTARTS="3")
    assert "--nproc_per_node 2 --max_restarts 3 train.py" in result.stdout


@pytest.mark.skipif(importlib.util.find_spec("ensurepip") is None, reason="this Python makes no environment with pip")
@pytest.mark.parametrize("is_interrupted", [False, True], ids=["new", "interrupted in ensurepip"])
def test_an_environment_is_created_and_created_again_if_incomplete(tmp_path, is_interrupted):
    (tmp_path / "scripts").mkdir()
    shutil.copy(REPO / "scripts" / "common.sh", tmp_path / "scripts")
    (tmp_path / "requirements.txt").touch()
    if is_interrupted:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
        (tmp_path / ".venv" / "bin" / "activate").unlink()
        package = next((tmp_path / ".venv" / "lib").glob("python3*")) / "site-packages" / "pip"
        package.mkdir()
        (package / "__init__.py").touch()
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    steps = "set -eu; . scripts/common.sh; set_up_environment requirements.txt; command -v python"
    for is_first in (True, False):
        result = subprocess.run(
            ["sh", "-c", steps], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[-1] == f"{tmp_path}/.venv/bin/python"
        assert ("creating a virtual environment" in result.stdout) == ("installing" in result.stdout) == is_first
