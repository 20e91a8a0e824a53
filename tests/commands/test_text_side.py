"""Runs in which the text side trains: the text tower, a learned context, the class embeddings themselves."""

import json

import pytest
import torch

from tests.commands.world import call, command, losses, records

TEXT_TOWER = ("network.fix_text=false", "solver.loss_type=NCE", "network.context_tokens=3")


@pytest.mark.parametrize(
    "overrides",
    [TEXT_TOWER, ("network.context_tokens=4", "network.context_per_class=true"), ("network.train_classifier=true",)],
    ids=["text tower", "context", "matrix"],
)
def test_training_and_testing_see_the_same_class_embeddings(world, tmp_path, overrides):
    """The scores are equal, although validation encodes the texts and a test reads them from the checkpoint."""
    arguments = ("--config", world.config, *overrides)
    assert call("train", *arguments, f"logging.run_dir={tmp_path}", "solver.lr=1e-2") == 0
    validation = [r for r in records(tmp_path) if r["kind"] == "val"][-1]
    assert call("test", *arguments, "--weights", tmp_path / "last_model.pt", "--out", tmp_path / "test") == 0
    summary = json.loads((tmp_path / "test" / "summary.json").read_text())
    assert summary["top1"] == validation["top1"] and summary["mean_class"] == validation["mean_class"]
    assert torch.tensor(losses(tmp_path)).isfinite().all()


def test_two_processes_train_the_text_like_one(world, tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    arguments = (*TEXT_TOWER, "network.tm=tokent1d")
    assert call("train", "--config", world.config, *arguments, f"logging.run_dir={one}", "data.batch_size=4") == 0
    result = command(
        "sh", "scripts/run_train.sh", world.config, *arguments, f"logging.run_dir={two}", "data.batch_size=2", NPROC="2"
    )
    assert result.returncode == 0, result.stderr
    assert len(losses(one)) == 4
    torch.testing.assert_close(losses(two), losses(one), rtol=1e-4, atol=1e-5)
