"""tools/few_shot.py and tools/base_to_novel.py: series of trainings, in this process instead of the launchers."""

import json

import numpy as np
import pytest

from datasets.lists import read_labels
from tests.commands.world import CLASSES, call, records
from tests.faults_of import error_line
from tests.tools.loading import run_tool
from tools import base_to_novel, few_shot, series

SHORT = ("solver.lr_warmup_step=0", "data.batch_size=20")


@pytest.fixture
def launches(monkeypatch):
    """The names of the launchers that were called."""
    seen = []

    def launch(script, *words):
        seen.append(script)
        if script == "run_train.sh":
            return call("train", "--config", *words)
        return call("test", "--weights", *words)

    monkeypatch.setattr(series, "launch", launch)
    return seen


def fault(capsys, tool, *words):
    return error_line(run_tool(tool, *words), capsys)


def test_few_shot_runs_each_shot_and_seed_once(world, launches, tmp_path, capsys):
    words = ("--config", world.config, "--seeds", "0,1", "--out", tmp_path, *SHORT, "--plain")
    assert run_tool(few_shot, *words, "--shots", "1,2") == 0 and len(launches) == 4
    table = capsys.readouterr().out
    assert run_tool(few_shot, *words, "--shots", "1,2,4") == 0 and len(launches) == 6
    assert capsys.readouterr().out.count("already finished") == 4
    found = {p: records(tmp_path / p)[-1]["top1"] for p in ("shot2/seed0", "shot2/seed1")}
    assert f"2, mean of 2  {np.mean(list(found.values())):.2f} +- {np.std(list(found.values())):.2f}" in table
    saved = json.loads((tmp_path / "few_shot.json").read_text())["runs"]
    assert {p: saved[p]["top1"] for p in found} == found and len(saved) == 6
    assert table.splitlines()[-1].startswith(f"next: sh scripts/run_test.sh {tmp_path}/shot")
    picks = {s: (tmp_path / f"shot2/seed{s}/few_shot.txt").read_text().splitlines() for s in (0, 1)}
    assert len(picks[0]) == len(picks[1]) == 6 and picks[0] != picks[1]
    # A finished run of another config is not skipped: train.py refuses it, or prints which keys have no effect.
    assert run_tool(few_shot, *words, "--shots", "1", "solver.lr=0.5") == 0 and len(launches) == 8
    assert "solver.lr has no effect" in capsys.readouterr().out


def test_few_shot_of_given_lists(world, launches, tmp_path, capsys):
    lines = (world.root / "train_frames.txt").read_text().splitlines()
    (tmp_path / "few_1_7.txt").write_text("\n".join(lines[::5]))
    words = ("--config", world.config, "--shots", 1, "--seeds", 7, "--out", tmp_path / "out", *SHORT)
    assert run_tool(few_shot, *words, "--lists", tmp_path / "few_{shot}_{seed}.txt") == 0
    (step,) = [r for r in records(tmp_path / "out/shot1/seed7") if r["kind"] == "train"]
    assert step["loss"] > 0 and not (tmp_path / "out/shot1/seed7/few_shot.txt").exists()
    assert "few_1_8.txt" in fault(capsys, few_shot, *words, "--lists", tmp_path / "few_{shot}_{seed}.txt", "--seeds", 8)
    assert "needs {shot}" in fault(capsys, few_shot, *words, "--lists", tmp_path / "few_1_7.txt")


def test_base_to_novel(world, launches, tmp_path, capsys):
    """Class 0 has the fewest training videos, so it is the novel one of three classes."""
    lines = (world.root / "train_frames.txt").read_text().splitlines()
    (tmp_path / "train.txt").write_text("\n".join(lines[1:]))
    out = tmp_path / "out"
    words = ("--config", world.config, "--out", out, "--shot", 2, *SHORT, f"data.train_list={tmp_path / 'train.txt'}")
    assert run_tool(base_to_novel, *words, "--seeds", "1,2") == 0
    assert launches == 2 * ["run_train.sh", "run_test.sh", "run_test.sh"]
    assert read_labels(out / "lists/base_labels.csv") == list(CLASSES[1:])
    assert read_labels(out / "lists/novel_labels.csv") == [CLASSES[0]]
    assert (out / "lists/val_novel.txt").read_text().splitlines() == [f"val_0_{i} {9 + i} 0" for i in range(3)]
    train = [(out / f"lists/train_seed{s}.txt").read_text().splitlines() for s in (1, 2)]
    assert all([line[-1] for line in found] == ["0", "0", "1", "1"] for found in train) and train[0] != train[1]
    assert all(line.startswith(("train_1", "train_2")) for found in train for line in found)
    scores = json.loads((out / "base_to_novel.json").read_text())
    for place, seed in enumerate((1, 2)):
        base, novel = (
            json.loads((out / f"seed{seed}/test_{half}/summary.json").read_text()) for half in ("base", "novel")
        )
        assert (base["num_classes"], base["num_videos"], novel["num_classes"], novel["num_videos"]) == (2, 6, 1, 3)
        b, n = scores["base"][place], scores["novel"][place]
        assert (b, n) == (base["top1"], novel["top1"]) and n == 100
        assert scores["harmonic"][place] == pytest.approx(2 * b * n / (b + n))
    means = np.mean(scores["base"]), np.mean(scores["novel"])
    assert f"{2 * means[0] * means[1] / sum(means):.2f}" in (printed := capsys.readouterr().out.splitlines())[-2]
    assert printed[-1] == f"next: python report.py {out}/seed1"

    assert run_tool(base_to_novel, *words, "--seeds", "1,2") == 0 and len(launches) == 6  # nothing is run again
    assert "choose another --out" in fault(capsys, base_to_novel, *words, "--shot", 3)


@pytest.mark.parametrize(
    ("tool", "words", "part"),
    [
        (few_shot, ("--shots", "2,x"), "--shots 2,x: must be different integers of at least 1"),
        (few_shot, ("--shots", "2,2"), "--shots 2,2"),
        (few_shot, ("--seeds", "1,01"), "--seeds 1,01: must be different integers"),
        (few_shot, ("data.shot=3",), "data.shot=3: set automatically for each training"),
        (base_to_novel, ("logging.run_dir=x",), "logging.run_dir=x: set automatically for each training"),
        (base_to_novel, ("--shot", 0), "--shot 0"),
        (base_to_novel, ("data.multi_label=true", "solver.loss_type=BCE"), "base-to-novel does not support it"),
    ],
)
def test_mistakes_are_one_line_errors(world, launches, tmp_path, capsys, tool, words, part):
    assert part in fault(capsys, tool, "--config", world.config, "--out", tmp_path / "out", *words) and not launches


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("data.dataset=something-something-v2",), "data.flip=0 data.flip_pairs=null"),
        (("solver.patience=2",), "solver.patience: all trainings must have the same number of epochs"),
    ],
)
def test_configs_that_base_to_novel_does_not_support(world, tmp_path, capsys, words, fault):
    assert run_tool(base_to_novel, "--config", world.config, "--out", tmp_path / "out", *words) == 2
    assert fault in capsys.readouterr().err
