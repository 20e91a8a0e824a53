"""Lists with several labels per video: training, validation, tests and the report."""

import csv
import json

import numpy as np
import pytest

from modules.embed import load_table
from tests.commands.world import CLASSES, call, records
from tests.faults_of import error_line
from utils.metrics import average_precisions, class_logits

WORDS = ("data.multi_label=true", "solver.loss_type=BCE")


@pytest.fixture(scope="module")
def lists(world, tmp_path_factory):
    """The world's lists with changed labels: the first video has no class, the second has two."""
    folder = tmp_path_factory.mktemp("lists")
    for split in ("train", "val"):
        lines = (world.root / f"{split}_frames.txt").read_text().splitlines()
        lines[:2] = [f"{lines[0].rsplit(None, 1)[0]} -", f"{lines[1].rsplit(None, 1)[0]} 2,0"]
        (folder / f"{split}.txt").write_text("\n".join(lines))
    return f"data.train_list={folder / 'train.txt'}", f"data.val_list={folder / 'val.txt'}"


@pytest.fixture(scope="module")
def run(world, lists, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    words = ("solver.epochs=2", "data.on_error=skip", f"logging.run_dir={folder}")
    assert call("train", "--config", world.config, *WORDS, *lists, *words) == 0
    return folder


def test_weights_of_classes_are_refused(world, lists, capsys):
    words = ("solver.class_weights=balanced", "--check")
    assert call("train", "--config", world.config, *WORDS, *lists, *words) == 2
    assert "solver.class_weights: not supported by loss_type BCE" in capsys.readouterr().err


def test_training_validates_by_mean_average_precision(run):
    validations = [r for r in records(run) if r["kind"] == "val"]
    assert [r["num_videos"] for r in validations] == [9, 9] and all("top1" not in r for r in validations)
    assert all(0 < r["map"] <= 100 and r["num_scored_classes"] == 3 for r in validations)
    assert "best checkpoint: mAP" in (run / "log.txt").read_text() and "mAP %" in (run / "log.txt").read_text()


def test_a_test_its_zero_shot_tests_and_the_report(world, run, tmp_path, capsys):
    weights, out = run / "last_model.pt", run / "test_frames_1x1"
    assert call("test", "--config", run / "config.yaml", "--weights", weights, "--out", out) == 0
    summary = json.loads((out / "summary.json").read_text())
    table, text, _ = load_table(out / "embeddings.npz")
    assert table.labels[:3].tolist() == [[0, 0, 0], [1, 0, 1], [1, 0, 0]]
    found = 100 * np.mean(average_precisions(class_logits(table.embeddings, text), table.labels))
    assert summary["map"] == pytest.approx(found) and "top1" not in summary
    assert f"mAP {found:.2f}%" in capsys.readouterr().out
    last = [r for r in records(run) if r["kind"] == "val"][-1]
    assert last["map"] == pytest.approx(found)
    rows = list(csv.DictReader((out / "predictions.csv").open(newline="")))
    assert [r["label"] for r in rows[:3]] == ["", "0,2", "0"] and rows[1]["class"] == f"{CLASSES[0]}; {CLASSES[2]}"
    assert rows[0]["correct"] == "0" and rows[1]["correct"] == str(int(rows[1]["top1"] != CLASSES[1]))

    assert call("test_zeroshot", "--config", run / "config.yaml", "--weights", weights, "--out", tmp_path / "z") == 0
    again = ("--config", run / "config.yaml", "--reuse", tmp_path / "z/embeddings.npz", "--out", tmp_path / "again")
    assert call("test_zeroshot", *again) == 0 and "mAP %" in capsys.readouterr().out
    for folder in ("z", "again"):
        (test,) = json.loads((tmp_path / folder / "summary.json").read_text())["tests"].values()
        assert test["map"] == pytest.approx(found) and "full_top1" not in test

    assert call("report", run, "--out", tmp_path / "report.html") == 0
    page = (tmp_path / "report.html").read_text()
    assert f"mAP {found:.1f}%" in page and "Average precision by class" in page and "Confusions" not in page
    assert call("report", run, run, "--out", tmp_path / "two.html") == 2
    assert "multi-label test" in capsys.readouterr().err


def test_kept_frame_embeddings_have_the_labels(world, lists, tmp_path):
    words = ("network.fix_video=true", "data.random_shift=false", "data.flip=0", "data.area_range=[1.0,1.0]")
    words = (*WORDS, *lists, *words, "data.grayscale=0", f"logging.cache_dir={tmp_path / 'cache'}")
    for draws in (0, 1):
        run_dir = f"logging.run_dir={tmp_path / str(draws)}"
        assert call("train", "--config", world.config, *words, f"data.cached_draws={draws}", run_dir) == 0
    whole, kept = (records(tmp_path / name) for name in ("0", "1"))
    assert [r["loss"] for r in kept if "loss" in r] == pytest.approx(
        [r["loss"] for r in whole if "loss" in r], rel=1e-3
    )
    assert kept[-1]["map"] == pytest.approx(whole[-1]["map"])


@pytest.mark.parametrize(
    ("command", "words", "part"),
    [
        ("train", (), "label is '-', not an integer; for several labels set data.multi_label=true"),
        ("train", ("data.multi_label=true",), "data.multi_label and solver.loss_type"),
        ("train", (*WORDS, "data.shot=1"), "few-shot picks"),
        ("train", (*WORDS, "solver.patience=1"), "solver.patience_score"),
        ("test_frozen", WORDS, "data.multi_label: test_frozen.py does not support it"),
        ("test", (*WORDS, "--allow_missing"), "--allow_missing"),
    ],
)
def test_one_label_per_video_is_required(world, lists, run, tmp_path, capsys, command, words, part):
    more = {"train": (f"logging.run_dir={tmp_path / 'r'}",), "test_frozen": ("--out", tmp_path / "o"),
            "test": ("--weights", run / "last_model.pt", "--out", tmp_path / "o")}[command]  # fmt: skip
    assert part in error_line(call(command, "--config", world.config, *lists, *words, *more), capsys)
