"""tools/fit_lda.py: from a config to a classifier file that training reads."""

import contextlib
import io

import pytest
import torch

from modules.classifier_file import load_classifier
from tests.commands.world import CLASSES, call, losses
from tests.tools.loading import run_tool
from tools import fit_lda


@pytest.fixture(scope="module")
def lda_file(world, tmp_path_factory):
    path = tmp_path_factory.mktemp("lda") / "lda.npz"
    # The config uses the file that the command writes.
    overrides = ("network.classifier=lda", f"network.classifier_file={path}", "network.tm=tokenshift")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert run_tool(fit_lda, "--config", world.config, "--out", path, "--videos", "4", *overrides) == 0
    assert "3 classes x 32 values, from 12 videos" in printed.getvalue()
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


def test_mistakes_are_one_line_errors(world, tmp_path, capsys):
    two = tmp_path / "two.txt"
    two.write_text("".join(f"train_{label}_0 9 {label}\ntrain_{label}_1 10 {label}\n" for label in (0, 1)))
    for words, message in (
        (("--videos", "1"), "--videos 1: must be at least 2"),
        ((f"data.train_list={two}",), "two.txt: no videos of 1 classes, such as swimming"),
    ):
        assert run_tool(fit_lda, "--config", world.config, "--out", tmp_path / "c", *words) == 2
        assert message in capsys.readouterr().err
