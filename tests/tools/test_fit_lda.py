"""tools/fit_lda.py: from a config to a classifier file that training reads."""

import sys

import pytest
import torch

from modules.classifier_file import load_classifier
from tests.commands.world import CLASSES, call, command, losses


@pytest.fixture(scope="module")
def lda_file(world, tmp_path_factory):
    path = tmp_path_factory.mktemp("lda") / "lda.npz"
    # The config uses the file that the command writes.
    result = command(
        sys.executable, "-m", "tools.fit_lda", "--config", world.config, "--out", path, "--videos", "4",
        "network.classifier=lda", f"network.classifier_file={path}", "network.tm=tokenshift",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "3 classes x 32 values, from 12 videos" in result.stdout
    return path


def test_the_file_contains_the_coefficients(lda_file):
    found = load_classifier(lda_file)
    assert found.class_names == list(CLASSES) and found.kind == "lda" and found.matrix.shape == (3, 32)
    assert found.matrix.isfinite().all() and found.matrix.any() and len(found.source_hash) == 64


def test_training_with_it(world, lda_file, tmp_path):
    arguments = (
        "--config", world.config, "network.classifier=lda", f"network.classifier_file={lda_file}",
        f"logging.run_dir={tmp_path}",
    )  # fmt: skip
    assert call("train", *arguments) == 0
    assert torch.tensor(losses(tmp_path)).isfinite().all()


def test_faults(world, tmp_path):
    def words(*more):
        return command(sys.executable, "-m", "tools.fit_lda", "--config", world.config, "--out", tmp_path / "c", *more)

    result = words("--videos", "1")
    assert result.returncode == 2 and "--videos 1: must be at least 2" in result.stderr
    two = tmp_path / "two.txt"
    two.write_text("".join(f"train_{label}_0 9 {label}\ntrain_{label}_1 10 {label}\n" for label in (0, 1)))
    result = words(f"data.train_list={two}")
    assert result.returncode == 2 and "two.txt: no videos of 1 classes, such as swimming" in result.stderr
