"""test_zeroshot.py: videos are embedded once and scored by all protocols, again from the table, by several configs."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from modules.embed import load_table
from tests.commands.world import CLASSES, call, command, tiny_clip_state
from tests.faults_of import error_line
from utils.metrics import class_logits, half_class_scores, score


@pytest.fixture(scope="module")
def weights(world, tmp_path_factory):
    path = tmp_path_factory.mktemp("trained")
    assert call("train", "--config", world.config, f"logging.run_dir={path}", "solver.epochs=2") == 0
    return path / "last_model.pt"


@pytest.fixture(scope="module")
def other(world, tmp_path_factory):
    """The same clips with other class names, one of which is a training class in another spelling, and two splits."""
    root = tmp_path_factory.mktemp("other")
    (root / "labels.csv").write_text("id,name\n0,Riding A-Bike\n1,juggling\n2,diving\n")
    lines = (world.root / "val_frames.txt").read_text().splitlines()
    (root / "split1.txt").write_text("\n".join(lines[:6]))
    (root / "split2.txt").write_text("\n".join(lines[3:]))
    config = yaml.safe_load(world.config.read_text())
    config["data"]["label_list"] = str(root / "labels.csv")
    (root / "other.yaml").write_text(yaml.safe_dump(config))
    return root


def test_all_protocols_of_one_config(world, weights, other, tmp_path, capsys):
    assert call("test_zeroshot", "--config", other / "other.yaml", "--weights", weights, "--out", tmp_path) == 0
    out = capsys.readouterr().out
    assert "1 of the 3 test classes are training classes: Riding A-Bike" in out
    table, text, names = load_table(tmp_path / "embeddings.npz")
    assert names == ["Riding A-Bike", "juggling", "diving"]
    logits = class_logits(table.embeddings, text)
    (summary,) = json.loads((tmp_path / "summary.json").read_text())["tests"].values()
    half = [scores.top1 for scores in half_class_scores(logits, table.labels)]
    assert summary["full_top1"] == score(logits, table.labels).top1
    assert (summary["half_top1_mean"], summary["half_top1_std"]) == (np.mean(half), np.std(half))
    assert summary["half_top1"] == half and len(half) == 10
    assert f"{summary['full_top1']:.2f}" in out


def test_splits_embed_each_video_once(world, weights, other, tmp_path):
    lists = f"{other / 'split1.txt'},{other / 'split2.txt'}"
    arguments = ("--config", other / "other.yaml", "--weights", weights, "--lists", lists, "--out", tmp_path)
    assert call("test_zeroshot", *arguments) == 0
    table = load_table(tmp_path / "embeddings.npz")[0]
    assert len(table.paths) == len(set(table.paths)) == 9
    summary = json.loads((tmp_path / "summary.json").read_text())
    tests = list(summary["tests"].values())
    assert [t["num_videos"] for t in tests] == [6, 6]
    assert summary["over_tests"]["full_top1_mean"] == np.mean([t["full_top1"] for t in tests])
    assert summary["over_tests"]["full_top1_std"] == np.std([t["full_top1"] for t in tests])


def test_a_table_is_scored_again_with_another_prompt(world, weights, other, tmp_path, capsys):
    arguments = ("--config", other / "other.yaml")
    views = ("--test_clips", "2", "--test_crops", "3")
    assert call("test_zeroshot", *arguments, *views, "--weights", weights, "--out", tmp_path / "a") == 0
    reuse = ("--reuse", tmp_path / "a" / "embeddings.npz")
    assert call("test_zeroshot", *arguments, *reuse, "--out", tmp_path / "same") == 0
    assert call("test_zeroshot", *arguments, *reuse, "--out", tmp_path / "b", "network.prompt=quite different {}!") == 0
    first, same, other_prompt = (
        next(iter(json.loads((tmp_path / n / "summary.json").read_text())["tests"].values()))
        for n in ("a", "same", "b")
    )
    assert {k: same[k] for k in ("full_top1", "half_top1")} == {k: first[k] for k in ("full_top1", "half_top1")}
    assert other_prompt["prompt"] == "quite different {}!"
    assert first["views"] == same["views"] == {"clips": 2, "crops": 3}
    (table, text, _), (again, other_text, _) = (load_table(tmp_path / n / "embeddings.npz") for n in ("a", "b"))
    assert np.array_equal(table.embeddings, again.embeddings) and not np.array_equal(text, other_text)
    assert call("report", tmp_path / "b", "--no_frames") == 0


def test_several_configs_by_the_launcher_in_two_processes(world, weights, other, tmp_path):
    result = command(
        "sh", "scripts/run_test_zeroshot.sh", f"{world.config},{other / 'other.yaml'}", weights, "--out", tmp_path,
        NPROC="2",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [name.split(",")[0] for name in summary["tests"]] == ["frames", "other"]
    assert (
        "mean of 2" in result.stdout and f"3 of the 3 test classes are training classes: {CLASSES[0]}" in result.stdout
    )
    assert load_table(tmp_path / "frames" / "embeddings.npz")[2] == list(CLASSES)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((), "give either --weights"),
        (("--weights", "a.pt", "--reuse", "b.npz"), "or --reuse to score"),
        (("--weights", "/nowhere/a.pt"), "/nowhere/a.pt"),
        (("--reuse", "/nowhere/b.npz"), "/nowhere/b.npz"),
        (("--reuse", "a", "--reuse", "b"), "2 tables for 1 configs"),
        (("--reuse", "a", "--test_crops", "3"), "remove --test_clips, --test_crops and --dense"),
        (("--reuse", "a", "--dense"), "remove --test_clips, --test_crops and --dense"),
        (("--weights", "a.pt", "--lists", "a.txt,,b.txt"), "empty path"),
        (("--weights", "a.pt", "--lists", "a.txt, a.txt"), "a list is given twice"),
    ],
)
def test_mistakes(world, capsys, arguments, part):
    assert part in error_line(call("test_zeroshot", "--config", world.config, *arguments), capsys)


def summaries(folder):
    return json.loads((folder / "summary.json").read_text())["tests"]


def test_results_with_the_same_folder_name(world, weights, other, tmp_path, capsys):
    (tmp_path / "b").mkdir()
    twin = shutil.copy(other / "other.yaml", tmp_path / "b" / "other.yaml")
    same_name = shutil.copy(other / "split2.txt", tmp_path / "b" / "split1.txt")
    both = ("--config", other / "other.yaml", "--config", twin, "--weights", weights)
    assert call("test_zeroshot", *both) == 2 and "two files have the same name" in capsys.readouterr().err
    lists = ("--lists", f"{other / 'split1.txt'}, {same_name}", "--out", tmp_path / "out")
    assert call("test_zeroshot", "--config", other / "other.yaml", "--weights", weights, *lists) == 0
    assert list(summaries(tmp_path / "out")) == [f"other, {other / 'split1.txt'}", f"other, {same_name}"]


def test_a_reused_table_takes_its_labels_from_the_list_and_knows_what_it_is(world, weights, tmp_path, capsys):
    arguments = ("--config", world.config, "--weights", weights)
    (tmp_path / "labels.csv").write_text("id,name\n" + "".join(f"{i},{n}\n" for i, n in enumerate(reversed(CLASSES))))
    lines = [line.split() for line in (world.root / "val_frames.txt").read_text().splitlines()]
    (tmp_path / "val.txt").write_text("".join(f"{path} {n} {2 - int(label)}\n" for path, n, label in reversed(lines)))
    reversed_ids = (f"data.label_list={tmp_path / 'labels.csv'}", f"data.val_list={tmp_path / 'val.txt'}")
    assert call("test_zeroshot", *arguments, "--out", tmp_path / "a") == 0
    assert call("test_zeroshot", *arguments, *reversed_ids, "--out", tmp_path / "b") == 0
    reuse = ("--config", world.config, "--reuse", tmp_path / "a" / "embeddings.npz")
    capsys.readouterr()
    assert call("test_zeroshot", *reuse, *reversed_ids, "--out", tmp_path / "c") == 0
    assert "3 of the 3 test classes are training classes" in capsys.readouterr().out
    (first,), (second,) = summaries(tmp_path / "b").values(), summaries(tmp_path / "c").values()
    assert {k: v for k, v in first.items() if k != "config"} == {k: v for k, v in second.items() if k != "config"}
    assert first["trained_classes"] == list(reversed(CLASSES))
    torch.save(tiny_clip_state(seed=5), tmp_path / "other_clip.pt")
    for override, part in (
        ("network.train_classifier=true", "was trained with False; remove network.train_classifier"),
        ("network.fix_text=false", "because the text tower was trained"),
        (f"network.arch={tmp_path / 'other_clip.pt'}", "a different text tower"),
    ):
        assert call("test_zeroshot", *reuse, override, "--out", tmp_path / "d") == 2
        assert part in capsys.readouterr().err
    (tmp_path / "more.txt").write_text((world.root / "val_frames.txt").read_text() + "train_0_0 9 0\n")
    assert call("test_zeroshot", *reuse, f"data.val_list={tmp_path / 'more.txt'}", "--out", tmp_path / "d") == 2
    assert "1 of the 10 listed videos are missing, such as train_0_0" in capsys.readouterr().err
    assert not (tmp_path / "d" / "summary.json").exists()


def test_each_prompt_set_has_a_separate_folder(world, weights, tmp_path):
    assert call("test_zeroshot", "--config", world.config, "--weights", weights, "--out", tmp_path) == 0
    reuse = ("--config", world.config, "--reuse", tmp_path / "embeddings.npz")
    for prompts in ("action16", "action28"):
        assert call("test_zeroshot", *reuse, f"network.prompt_set={prompts}") == 0
    assert {path.parent.name for path in tmp_path.glob("*/summary.json")} == {
        "zeroshot_frames_action16",
        "zeroshot_frames_action28",
    }


def test_tests_report_mean_average_precision(world, weights, tmp_path, capsys):
    assert call("test", "--config", world.config, "--weights", weights, "--metric", "map", "--out", tmp_path) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert 0 < summary["map"] <= 100 and 0 < summary["map_published_ranking"] <= 100
    assert f"mAP {summary['map']:.2f}%" in capsys.readouterr().out
