"""CONTRIBUTING.md's example, done as it says in a copy of the repository: a head is added, trained and loaded."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.world import REPO
from utils.config import load_config

PAGE = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = [code for _, code in re.findall(r"```(python|yaml)\n(.*?)```", PAGE, re.DOTALL)]
FILES = {code.split("\n", 1)[0].removeprefix("# "): code.split("\n", 1)[1] for code in BLOCKS if code.startswith("# ")}
(LINE,) = (code for code in BLOCKS if not code.startswith("# "))


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The repository's files, with those of the page and its line in the table."""
    root = tmp_path_factory.mktemp("copy")
    listed = subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if not name.startswith(("docs/", "tests/golden/")) and (REPO / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, root / name)
    for name, text in FILES.items():
        (root / name).write_text(text)
    table = root / "modules" / "heads" / "__init__.py"
    table.write_text(table.read_text().replace("HEADS = {\n", f"HEADS = {{\n{LINE}"))
    return root


def run(copy: Path, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=copy,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_has_the_four_pieces():
    assert [Path(name).suffix for name in FILES] == [".py", ".yaml", ".py"]
    assert LINE.strip() in PAGE and all((REPO / name).parent.is_dir() for name in FILES)


def test_its_files_pass_the_linter(copy):
    files = [name for name in FILES if name.endswith(".py")]
    run(copy, "-m", "ruff", "check", *files)
    run(copy, "-m", "ruff", "format", "--check", *files)


def test_its_test_passes(copy):
    run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", next(name for name in FILES if name.startswith("tests/")))


def test_its_head_trains_and_loads(copy, world, tmp_path):
    shipped = load_config(REPO / "configs/shapes/transf.yaml").config
    config = next(name for name in FILES if name.endswith(".yaml"))
    files = [f"data.{key}={getattr(load_config(world.config).config.data, key)}" for key in (
        "train_root", "train_list", "val_root", "val_list", "label_list", "num_classes",
    )]  # fmt: skip
    for key in ("train_list", "label_list", "num_classes"):
        assert f"{key}: {getattr(shipped.data, key)}" in FILES[config]
    small = ["data.workers=0", "data.batch_size=4", "solver.epochs=1", "logging.tensorboard=false"]
    out = run(copy, "train.py", "--config", config, *files, *small, f"logging.run_dir={tmp_path / 'run'}")
    assert "sim_header AttentionPool" in out
    run(copy, "test.py", "--config", config, "--weights", tmp_path / "run/last_model.pt", *files, "data.workers=0")
