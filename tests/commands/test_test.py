"""test.py: scores, output files and errors."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from modules.embed import load_table
from reporting.outcomes import figures, outcomes_of
from reporting.temperature import fit_temperature
from tests.commands.world import CLASSES, NUM_VAL, call, records
from tests.faults_of import error_line
from utils.hashing import file_hash
from utils.metrics import class_logits, score


def run_test(world, weights, *arguments, config=None):
    return call("test", "--config", config or world.config, "--weights", weights, *arguments)


def test_a_test_leaves_table_predictions_and_summary(world, weights, tmp_path, capsys):
    assert run_test(world, weights, "--out", tmp_path) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    table, text, names = load_table(tmp_path / "embeddings.npz")
    assert table.embeddings.shape == (3 * NUM_VAL, 32) and text.shape == (3, 32) and names == list(CLASSES)
    assert table.paths[0] == "val_0_0" and table.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    scores = score(class_logits(table.embeddings, text), table.labels)
    assert (summary["top1"], summary["top5"], summary["mean_class"]) == (scores.top1, scores.top5, scores.mean_class)
    assert summary["num_videos"] == 9 and summary["seconds"] > 0 and summary["prompt"] == "a video of a person {}."
    assert summary["weights_hash"] == file_hash(weights)
    assert summary["list_hash"] == file_hash(world.root / "val_frames.txt")
    assert summary["views"] == {"clips": 1, "crops": 1, "dense": False}
    assert summary["config"]["data"]["num_segments"] == 4
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open(newline="")))
    assert [r["path"] for r in rows] == table.paths and {r["class"] for r in rows} == set(CLASSES)
    assert np.mean([int(r["correct"]) for r in rows]) * 100 == pytest.approx(summary["top1"])
    assert all(sum(float(r[f"prob{k}"]) for k in (1, 2, 3)) == pytest.approx(1, abs=1e-5) for r in rows)
    assert f"top-1 {scores.top1:.2f}%" in capsys.readouterr().out


def test_calibration_and_confusion(world, weights, tmp_path):
    assert run_test(world, weights, "--out", tmp_path, "--confusion") == 0
    table, text, names = load_table(tmp_path / "embeddings.npz")
    logits = class_logits(table.embeddings, text)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["ece"] == pytest.approx(figures(outcomes_of(logits, table.labels))["ece"][0], abs=1e-4)
    assert summary["temperature"] == pytest.approx(fit_temperature(logits, table.labels), rel=1e-3)
    rows = list(csv.reader((tmp_path / "confusion.csv").open(newline="")))
    assert rows[0] == ["class", *CLASSES] and [row[0] for row in rows[1:]] == list(CLASSES)
    counts = np.array([row[1:] for row in rows[1:]], dtype=int)
    expected = [[int((logits[table.labels == i].argmax(axis=1) == j).sum()) for j in range(3)] for i in range(3)]
    assert counts.tolist() == expected and counts.trace() / 9 * 100 == pytest.approx(summary["top1"])
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 300
    assert run_test(world, weights, "--out", tmp_path) == 0  # another test, which leaves no files of this one
    assert not list(tmp_path.glob("confusion*"))


def test_segments_of_one_video_are_separate_rows(world, weights, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("val_0_2.mp4 0 0.2 0\nval_0_2.mp4 0.2 9 1\nval_1_0.mp4 0 9 1\n")
    words = (f"data.val_list={tmp_path / 'list.txt'}", "data.list_times=true")
    assert run_test(world, weights, "--out", tmp_path / "t", *words, config=world.video_config) == 0
    table = load_table(tmp_path / "t" / "embeddings.npz")[0]
    assert table.paths == ["val_0_2.mp4 0 0.2", "val_0_2.mp4 0.2 9", "val_1_0.mp4 0 9"]
    assert not np.allclose(table.embeddings[0], table.embeddings[1])
    assert call("report", tmp_path / "t", "--out", tmp_path / "r.html") == 0
    assert "no film strips" not in capsys.readouterr().err
    assert run_test(world, weights, "--out", tmp_path / "f", *words) == 2  # a list of frame folders
    assert "data.modality and data.frame_rate: list_times of frame folders" in capsys.readouterr().err


def test_testing_agrees_with_the_validation_of_the_run(world, weights, tmp_path):
    assert run_test(world, weights, "--out", tmp_path) == 0
    validated = [r for r in records(weights.parent) if r["kind"] == "val"][-1]
    assert json.loads((tmp_path / "summary.json").read_text())["top1"] == pytest.approx(validated["top1"])


def test_a_text_tower_without_weights_is_the_same_in_training_and_test(world, tmp_path):
    arguments = ("--config", world.config, "network.init=false", f"logging.cache_dir={tmp_path / 'cache'}")
    assert call("train", *arguments, f"logging.run_dir={tmp_path / 'run'}", "solver.lr=1e-3") == 0
    torch.rand(3)  # changes the state of the random generator
    assert call("test", *arguments, "--weights", tmp_path / "run" / "last_model.pt", "--out", tmp_path / "test") == 0
    assert len(list((tmp_path / "cache").glob("classifier-*"))) == 1
    validated = [r for r in records(tmp_path / "run") if r["kind"] == "val"][-1]
    assert json.loads((tmp_path / "test" / "summary.json").read_text())["top1"] == pytest.approx(validated["top1"])


@pytest.mark.parametrize("overrides", [("network.classifier=orthogonal",), ("network.classifier=random", "seed=7")])
def test_class_embeddings_that_differ_from_the_trained_ones_are_reported(world, tmp_path, capsys, overrides):
    trained = ("network.classifier=random", f"logging.cache_dir={tmp_path / 'cache'}")
    assert call("train", "--config", world.config, *trained, f"logging.run_dir={tmp_path / 'run'}") == 0
    test = ("test", "--config", world.config, "--weights", tmp_path / "run" / "last_model.pt", "--out", tmp_path / "t")
    assert call(*test, *trained) == 0 and "WARNING" not in capsys.readouterr().out
    assert call(*test, *trained, *overrides) == 0
    assert "was trained with network.classifier=random" in capsys.readouterr().out


def test_views_are_averaged_embeddings(world, weights, tmp_path):
    """The embedding of three crops of two clips is the mean over all crops and clips."""
    assert run_test(world, weights, "--out", tmp_path / "all", "--test_crops", 3, "--test_clips", 2) == 0
    assert run_test(world, weights, "--out", tmp_path / "clips", "--test_clips", 2) == 0
    assert (
        run_test(world, weights, "--out", tmp_path / "small", "--test_crops", 3, "--test_clips", 2, "data.batch_size=1")
        == 0
    )
    all_views, clips, small = (
        load_table(tmp_path / n / "embeddings.npz")[0].embeddings for n in ("all", "clips", "small")
    )
    assert not np.allclose(all_views, clips)
    np.testing.assert_allclose(all_views, small, rtol=1e-4, atol=1e-5)  # computed one view at a time


def test_dense_and_default_folder(world, weights):
    assert run_test(world, weights, "--dense", "--test_clips", 2) == 0
    summary = json.loads((weights.parent / "test_frames_2x1_dense" / "summary.json").read_text())
    assert summary["views"] == {"clips": 2, "crops": 1, "dense": True}


def test_each_checkpoint_of_a_run_has_its_own_default_folder(world, weights):
    other = weights.with_name("mixed.pt")
    shutil.copy(weights, other)
    folders = [weights.parent / name for name in ("test_frames_1x1", "test_frames_1x1_mixed")]
    for path, folder in zip((weights, other), folders):
        assert run_test(world, path) == 0
        assert json.loads((folder / "summary.json").read_text())["weights"] == str(path)
    zero_shot = ("--config", world.config, "--weights", other)
    assert call("test_zeroshot", *zero_shot) == 0
    assert (weights.parent / "zeroshot_frames_mixed" / "summary.json").is_file()


@pytest.mark.parametrize("script", ["test", "test_zeroshot"])
def test_a_folder_that_cannot_be_created_is_reported_first(world, script, capsys):
    assert call(script, "--config", world.config, "--weights", "no.pt", "--out", "/proc/x") == 2
    assert "error: --out /proc/x: cannot be written" in capsys.readouterr().err


def test_video_files_score_like_their_frames(world, weights, tmp_path):
    assert run_test(world, weights, "--out", tmp_path, config=world.video_config) == 0
    table = load_table(tmp_path / "embeddings.npz")[0]
    assert table.paths[0] == "val_0_0.mp4" and np.isfinite(table.embeddings).all()


def test_an_unreadable_video_is_an_error_that_names_it(world, weights, tmp_path, capsys):
    entries = (world.root / "val_videos.txt").read_text().splitlines()
    broken = world.root / "videos" / "broken.mp4"
    broken.write_bytes((world.root / "videos" / "val_0_0.mp4").read_bytes()[:900])
    (tmp_path / "list.txt").write_text("\n".join([*entries, "broken.mp4 1"]))
    arguments = (f"data.val_list={tmp_path / 'list.txt'}", "--out", tmp_path / "out")
    assert run_test(world, weights, *arguments, config=world.video_config) == 2
    error = capsys.readouterr().err
    assert "broken.mp4" in error and "list.txt:10" in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("network.sim_header=None",), "last_model.pt was trained with Transf; remove network.sim_header"),
        (("--test_clips", 0), "--test_clips 0"),
        (("data.val_list=/nowhere/v.txt",), "/nowhere/v.txt"),
    ],
)
def test_mistakes(world, weights, tmp_path, capsys, arguments, part):
    assert part in error_line(run_test(world, weights, "--out", tmp_path / "out", *arguments), capsys)
    assert not (tmp_path / "out").exists()


def test_weights_of_another_architecture_are_refused(world, weights, tmp_path, capsys):
    state = torch.load(weights, weights_only=True)
    del state["content_hash"]
    state["model_state_dict"]["visual.proj"] = torch.zeros(64, 16)
    torch.save(state, tmp_path / "other.pt")
    assert run_test(world, tmp_path / "other.pt") == 2
    assert "visual.proj" in capsys.readouterr().err
