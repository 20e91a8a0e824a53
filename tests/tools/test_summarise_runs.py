"""tools/summarise_runs.py: mean and deviation over finished runs only."""

import argparse
import json

import pytest

from tests.faults_of import error_line
from tests.tools.loading import load_tool
from utils.cli import run_command


def write_run(folder, score, epoch=4, epochs=4, scores=("top1", "top5", "mean_class")):
    folder.mkdir()
    (folder / "config.yaml").write_text(f"solver: {{epochs: {epochs}}}\n")
    values = dict.fromkeys(scores, score)
    records = [{"kind": "val", "step": 8 * e, "epoch": e, **values} for e in range(2, epoch + 1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


@pytest.fixture
def runs(tmp_path):
    return [write_run(tmp_path / "a", 40.0), write_run(tmp_path / "b", 50.0)]


def summarise(*runs):
    args = argparse.Namespace(runs=[str(run) for run in runs], debug=False)
    return run_command(load_tool("summarise_runs").main, args)


def test_mean_and_deviation(runs, capsys):
    assert summarise(*runs) == 0
    assert "mean of 2" in (printed := capsys.readouterr().out) and "45.00 +- 5.00" in printed
    assert printed.splitlines()[-1] == f"next: sh scripts/run_test.sh {runs[1]}/last_model.pt"  # the better one


def test_multi_label_runs_are_summarised_by_map(runs, tmp_path, capsys):
    multi_label = [write_run(tmp_path / name, score, scores=("map",)) for name, score in (("c", 20.0), ("d", 30.0))]
    assert summarise(*multi_label) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "map"] and "25.00 +- 5.00" in lines[-2]
    assert lines[-1] == f"next: sh scripts/run_test.sh {multi_label[1]}/last_model.pt"
    assert "d: its scores are map" in fault(capsys, runs[0], multi_label[1])


def test_a_truncated_last_line_is_left_out(runs, capsys):
    with (runs[0] / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    assert summarise(*runs) == 0 and "45.00 +- 5.00" in capsys.readouterr().out


def fault(capsys, *runs):
    return error_line(summarise(*runs), capsys)


def test_an_unfinished_run_is_named(runs, tmp_path, capsys):
    cut = write_run(tmp_path / "cut", 10.0, epoch=2)
    assert f"{cut}/metrics.jsonl: its last validation is after epoch 2 of 4" in fault(capsys, *runs, cut)
    none = write_run(tmp_path / "none", 10.0, epoch=0)
    assert f"{none}/metrics.jsonl: contains no validation" in fault(capsys, *runs, none)


def test_runs_of_different_lengths_are_not_averaged(runs, tmp_path, capsys):
    short = write_run(tmp_path / "short", 10.0, epoch=2, epochs=2)
    assert f"{short}: ended with epoch 2, and {runs[0]} with 4" in fault(capsys, *runs, short)


def test_a_run_given_twice_is_an_error(runs, capsys):
    assert f"{runs[0]}/: given twice" in fault(capsys, *runs, f"{runs[0]}/")


def test_invalid_records_are_one_line(runs, capsys):
    for text in ("nonsense}\n", "{}\n", '[1]\n{"kind": "val"}\n'):
        (runs[1] / "metrics.jsonl").write_text(text)
        assert f"{runs[1]}/metrics.jsonl: invalid metrics file" in fault(capsys, *runs)
    (runs[1] / "metrics.jsonl").unlink()
    assert f"{runs[1]}/metrics.jsonl: no such file" in fault(capsys, *runs)
