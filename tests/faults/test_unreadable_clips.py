"""data.on_error and --allow_missing: handling of unreadable clips."""

import json
import shutil

import numpy as np
import pytest

from datasets.build import build_train_loader
from datasets.video_dataset import SampleKey
from modules.embed import load_table
from modules.pixels import with_preprocessing
from tests.commands.world import NUM_TRAIN, NUM_VAL, assert_same_predictions, call, losses, records
from tests.faults_of import error_line
from utils.config import load_config
from utils.hashing import content_hash

SKIP = ("data.on_error=skip", "data.max_skipped_share=0.2")


@pytest.fixture(scope="module")
def broken_root(world, tmp_path_factory):
    """The world's frames; two training clips and a validation clip without a first frame."""
    root = tmp_path_factory.mktemp("broken") / "frames"
    shutil.copytree(world.root / "frames", root)
    for name in ("train_0_1", "train_2_4", "val_1_0"):
        for path in sorted((root / name).iterdir()):
            path.write_bytes(b"")
    return root


def train(world, root, run_dir, *overrides):
    where = (f"logging.run_dir={run_dir}", f"data.train_root={root}")
    return call("train", "--config", world.config, *where, *overrides)


def test_raise_names_the_clip(world, broken_root, tmp_path, capsys):
    error = error_line(train(world, broken_root, tmp_path), capsys)
    assert ("train_0_1" in error or "train_2_4" in error) and "train_frames.txt:" in error


def test_skip_replaces_clips_and_reports_each_once(world, broken_root, tmp_path, capsys):
    overrides = (*SKIP, "solver.epochs=3")
    assert train(world, broken_root, tmp_path / "a", *overrides) == 0
    output = capsys.readouterr().out
    for name in ("train_0_1", "train_2_4"):
        lines = [line for line in output.splitlines() if "replaced by a clip of its class" in line and name in line]
        assert len(lines) == 1, output
    for epoch in (1, 2, 3):
        assert f"epoch {epoch}: 2 clips were unreadable and replaced" in output
    assert sum(r["skipped_clips"] for r in records(tmp_path / "a") if r["kind"] == "train") == 6
    assert train(world, broken_root, tmp_path / "b", *overrides, "data.workers=2") == 0
    assert losses(tmp_path / "b") == losses(tmp_path / "a")


def test_the_replacement_is_of_the_same_class_and_seeded_by_the_sample(world, broken_root):
    cfg = with_preprocessing(load_config(world.config, [*SKIP, f"data.train_root={broken_root}"]).config)
    dataset = build_train_loader(cfg).dataset
    sound = build_train_loader(with_preprocessing(load_config(world.config, list(SKIP)).config)).dataset
    index = [entry.path for entry in dataset.entries].index("train_0_1")
    items = [dataset[SampleKey(epoch, index)] for epoch in range(6)]
    assert all(item["label"] == 0 and item["index"] == index and "train_0_1" in item["fault"] for item in items)
    again = dataset[SampleKey(3, index)]
    assert np.array_equal(again["frames"], items[3]["frames"])
    assert len({content_hash(item["frames"]) for item in items}) > 1
    other = [entry.path for entry in dataset.entries].index("train_0_2")
    readable = dataset[SampleKey(0, other)]
    assert readable["fault"] is None and np.array_equal(readable["frames"], sound[SampleKey(0, other)]["frames"])


def test_skip_stops_above_the_maximum_share(world, broken_root, tmp_path, capsys):
    assert train(world, broken_root, tmp_path, "data.on_error=skip", "data.max_skipped_share=0.1") == 2
    error = capsys.readouterr().err
    assert f"2 of the epoch's {3 * NUM_TRAIN} clips are unreadable, more than data.max_skipped_share (0.1)" in error


def test_skip_needs_one_readable_clip_of_the_class(world, broken_root, tmp_path, capsys):
    lines = (world.root / "train_frames.txt").read_text().splitlines(keepends=True)
    few = [line for line in lines if not line.startswith("train_0_") or line.startswith("train_0_1 ")]
    (tmp_path / "list.txt").write_text("".join(few))
    assert "no other clip of class 0 can be read" in error_line(
        train(world, broken_root, tmp_path / "run", *SKIP, f"data.train_list={tmp_path / 'list.txt'}"), capsys
    )


def test_evaluation_raises_or_counts_as_wrong(world, broken_root, tmp_path, capsys):
    assert train(world, world.root / "frames", tmp_path / "run") == 0
    weights = tmp_path / "run" / "last_model.pt"
    arguments = ("--config", world.config, "--weights", weights, "--test_crops", "3")
    assert call("test", *arguments, "--out", tmp_path / "whole") == 0
    broken = (*arguments, f"data.val_root={broken_root}", "data.workers=1")
    capsys.readouterr()
    assert call("test", *broken, *SKIP, "--out", tmp_path / "raised") == 2
    assert "val_1_0" in capsys.readouterr().err and not (tmp_path / "raised").exists()
    assert call("test", *broken, "--out", tmp_path / "missing", "--allow_missing") == 0
    assert "1 of them could not be read and count as wrong" in capsys.readouterr().out
    whole, found = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "missing"))
    predictions = (tmp_path / "missing" / "predictions.csv").read_text().splitlines()
    before = (tmp_path / "whole" / "predictions.csv").read_text().splitlines()
    row = next(i for i, line in enumerate(before) if line.startswith("val_1_0,"))
    assert predictions[row].startswith("val_1_0,1,playing guitar,0,") or predictions[row].endswith("guitar,0")
    # The batch of the unreadable video has another shape.
    assert_same_predictions(*([*lines[:row], *lines[row + 1 :]] for lines in (predictions, before)))
    was_right = before[row].split(",")[3] == "1"
    assert found["num_missing"] == 1 and found["num_videos"] == whole["num_videos"] == 3 * NUM_VAL
    assert found["top1"] == pytest.approx(whole["top1"] - was_right * 100 / (3 * NUM_VAL))
    assert found["top5"] == pytest.approx(whole["top5"] - 100 / (3 * NUM_VAL))
    table = load_table(tmp_path / "missing" / "embeddings.npz")[0]
    assert np.flatnonzero(np.isnan(table.embeddings).any(axis=1)).tolist() == [row - 1]


def test_validation_in_training_never_skips_a_clip(world, broken_root, tmp_path, capsys):
    assert train(world, world.root / "frames", tmp_path, *SKIP, f"data.val_root={broken_root}") == 2
    assert "val_1_0" in capsys.readouterr().err
