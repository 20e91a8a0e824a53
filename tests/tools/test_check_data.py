"""tools/check_data.py: every file opened, a report, cleaned lists; resumable."""

import csv
import errno
import os
import shutil
import sys

import pytest
import yaml

from datasets.build import build_eval_loader
from datasets.video_dataset import SampleKey
from modules.pixels import with_preprocessing
from tests.commands.world import NUM_TRAIN, NUM_VAL, command
from tests.faults_of import error_line
from tests.tools.loading import load_tool
from utils.config import load_config
from utils.errors import UserError

check_data = load_tool("check_data")


@pytest.fixture
def broken(world, tmp_path):
    """A copy of the world's frames with four kinds of damage, and its config."""
    root = tmp_path / "frames"
    shutil.copytree(world.root / "frames", root)
    (root / "train_0_1" / "img_00004.jpg").unlink()  # neither first, middle nor last
    last = root / "train_1_0" / "img_00009.jpg"
    last.write_bytes(last.read_bytes()[:200])
    shutil.copy(root / "train_2_0" / "img_00001.jpg", root / "train_2_0" / "img_00010.jpg")
    shutil.rmtree(root / "val_0_0")
    config = yaml.safe_load(world.config.read_text())
    config["data"] |= {"train_root": str(root), "val_root": str(root)}
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / "broken.yaml"


def run(config, *arguments):
    words = ["--config", config, *arguments]
    return check_data.run_command(check_data.main, check_data.parse_arguments([str(word) for word in words]))


def report(out):
    with (out / "report.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_corrupted_files_are_found_and_left_out(world, broken, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(broken, "--out", out, "--workers", "2") == 1
    rows = report(out)
    assert len(rows) == 3 * (NUM_TRAIN + NUM_VAL)
    bad = {row["path"]: row["reason"] for row in rows if row["status"] == "bad"}
    assert set(bad) == {"train_0_1", "train_1_0", "train_2_0", "val_0_0"}
    assert "img_00004.jpg" in bad["train_0_1"] and "img_00009.jpg" in bad["train_1_0"]
    assert "img_00010.jpg" in bad["train_2_0"] and "no such folder" in bad["val_0_0"]
    clean = (out / "train_clean.txt").read_text().splitlines()
    whole = (world.root / "train_frames.txt").read_text().splitlines()
    assert clean == [line for line in whole if line.split()[0] not in bad]
    assert sorted(path.name for path in out.iterdir()) == ["report.csv", "train_clean.txt", "val_clean.txt"]
    output = capsys.readouterr().out
    assert f"15 entries, 3 bad; the list without them: {out / 'train_clean.txt'}" in output
    assert f"9 entries, 1 bad; the list without them: {out / 'val_clean.txt'}" in output
    lists = (f"data.train_list={out / 'train_clean.txt'}", f"data.val_list={out / 'val_clean.txt'}")
    assert run(broken, *lists, "--out", tmp_path / "again", "--workers", "1") == 0
    assert "without them" not in capsys.readouterr().out


def test_every_list_of_several_sets_is_checked(world, broken, tmp_path):
    keys = ("train_root", "train_list", "val_root", "val_list", "label_list")
    whole, damaged = (yaml.safe_load(path.read_text())["data"] for path in (world.config, broken))
    sets = [{"name": name} | {key: str(of[key]) for key in keys} for name, of in (("a", whole), ("b", damaged))]
    data = {key: value for key, value in whole.items() if key not in (*keys, "num_classes")}
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump({"data": data | {"sets": sets}}))
    out = tmp_path / "out"
    assert run(tmp_path / "sets.yaml", "--out", out, "--workers", "1") == 1
    rows = report(out)
    assert len(rows) == 2 * 3 * (NUM_TRAIN + NUM_VAL)
    assert {row["list"] for row in rows} == {"a_train", "a_val", "b_train", "b_val"}
    bad = {(row["list"], row["path"]) for row in rows if row["status"] == "bad"}
    assert bad == {("b_train", f"train_{name}") for name in ("0_1", "1_0", "2_0")} | {("b_val", "val_0_0")}
    lines = {path.name: len(path.read_text().splitlines()) for path in out.glob("*_clean.txt")}
    assert lines == {"a_train_clean.txt": 15, "a_val_clean.txt": 9, "b_train_clean.txt": 12, "b_val_clean.txt": 8}


def test_videos(world, tmp_path):
    root = tmp_path / "videos"
    shutil.copytree(world.root / "videos", root)
    cut = root / "val_1_1.mp4"
    cut.write_bytes(cut.read_bytes()[:-500])
    where = (f"data.train_root={root}", f"data.val_root={root}")
    assert run(world.video_config, *where, "--out", tmp_path / "out", "--workers", "2") == 1
    rows = report(tmp_path / "out")
    assert [row["path"] for row in rows if row["status"] == "bad"] == ["val_1_1.mp4"]
    assert rows[0]["num_frames"] == "9"


class Bar:
    """Replaces tqdm: raises KeyboardInterrupt after some rows, and records its initial count."""

    interrupt_after = 10**6
    begun_at: list[int] = []

    def __init__(self, total, initial, **options):
        self.begun_at.append(initial)
        self._num_rows = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def update(self):
        self._num_rows += 1
        if self._num_rows == self.interrupt_after:
            raise KeyboardInterrupt


def test_an_interrupted_check_is_resumed(broken, tmp_path, monkeypatch):
    monkeypatch.setattr(check_data, "progress", Bar)
    monkeypatch.setattr(Bar, "interrupt_after", 10)
    monkeypatch.setattr(Bar, "begun_at", [])
    assert run(broken, "--out", tmp_path / "out", "--workers", "1") == 130
    assert not (tmp_path / "out" / "report.csv").exists()
    monkeypatch.setattr(Bar, "interrupt_after", 10**6)
    for out in ("out", "whole"):
        assert run(broken, "--out", tmp_path / out, "--workers", "1") == 1
    assert Bar.begun_at == [0, 10, 0]
    assert (tmp_path / "out" / "report.csv").read_bytes() == (tmp_path / "whole" / "report.csv").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 1), (errno.EACCES, 2)])
def test_a_report_that_cannot_be_written_is_one_line(broken, tmp_path, monkeypatch, capsys, number, code):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(check_data, "write_reports", fail)
    assert run(broken, "--out", tmp_path / "out", "--workers", "1") == code
    assert capsys.readouterr().err.endswith(
        f"error: --out: {tmp_path / 'out'} cannot be written ({os.strerror(number)}); choose another folder\n"
    )


def test_other_lists_are_checked_again(broken, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / check_data.JOURNAL).write_text("another stamp\ntrain,1,train_0_0,bad,9,old\n")
    assert run(broken, "--out", out, "--workers", "1") == 1
    assert report(out)[0]["status"] == "good"


@pytest.mark.parametrize("line", [b"train,one,train_0_0,bad,9,old", b"train,1,train_0_0", b"\xff,1,a,bad,9,old"])
def test_a_corrupted_journal_is_one_line(tmp_path, line):
    journal = tmp_path / check_data.JOURNAL
    journal.write_bytes(b"stamp\n" + line + b"\n")
    with pytest.raises(UserError, match=f"{journal}: corrupted .*; remove it to check the videos again"):
        check_data.read_journal(journal, "stamp")


@pytest.mark.parametrize("kind", ["frames", "videos"])
def test_segments_are_checked_as_training_reads_them(world, tmp_path, monkeypatch, kind):
    """Bad entries are those that a data set refuses, for the same reason; another frame rate is another check."""
    of_frames = kind == "frames"
    times = ("0 0.2", "0.1 0.11", "0.39 9", "0.44 9", "0 1e9", "1.5 2")
    lines = [f"val_0_2 {t} 11 0" if of_frames else f"val_0_2.mp4 {t} 0" for t in times]  # 11 frames, 0.44 s
    (tmp_path / "list.txt").write_text("".join(f"{line}\n" for line in lines))
    config = world.config if of_frames else world.video_config
    words = ["data.list_times=true", *(f"data.{side}_list={tmp_path}/list.txt" for side in ("train", "val"))]
    words += ["data.frame_rate=25"] * of_frames
    out = ("--out", tmp_path / "out", "--workers", "1")
    assert run(config, *words, *out) == 1
    rows = [row for row in report(tmp_path / "out") if row["list"] == "val"]
    assert [row["num_frames"] for row in rows] == ["5", "1", "2", "", "11", ""]
    dataset = build_eval_loader(with_preprocessing(load_config(config, words).config), allow_missing=True).dataset
    for number, row in enumerate(rows):
        assert (dataset[SampleKey(0, number)]["fault"] or "") == row["reason"]
        assert (row["status"] == "bad") == bool(row["reason"])
    if of_frames:
        monkeypatch.setattr(check_data, "progress", Bar)
        monkeypatch.setattr(Bar, "interrupt_after", 5)
        monkeypatch.setattr(Bar, "begun_at", [])
        assert run(config, *words, *out) == 130
        monkeypatch.setattr(Bar, "interrupt_after", 10**6)
        assert run(config, *words, "data.frame_rate=5", *out) == 0  # 2.2 s
        assert Bar.begun_at == [0, 0]


def test_the_command(world, tmp_path, capsys):
    result = command(sys.executable, "-m", "tools.check_data", "--config", world.config, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    for words, message in (
        ((tmp_path / "none.yaml",), "no such config"),
        ((world.config, "--workers", 0), "at least 1"),
    ):
        assert message in error_line(run(*words), capsys)


def test_probable_mistakes_are_warnings_and_two_configs_have_separate_results(world, tmp_path, capsys):
    lines = (world.root / "train_frames.txt").read_text().splitlines()
    first, second, *_ = [line for line in lines if line.endswith(" 0")]
    both = (world.root / "val_frames.txt").read_text().splitlines()[0]
    mistaken = [first, first, second, second[:-1] + "1", both]
    (tmp_path / "list.txt").write_text("\n".join(mistaken) + "\n")
    for name, listed in (("valid", world.root / "train_frames.txt"), ("odd", tmp_path / "list.txt")):
        config = yaml.safe_load(world.config.read_text())
        config["data"]["train_list"] = str(listed)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
        assert run(tmp_path / f"{name}.yaml", "--workers", 1) == 0
        warnings = capsys.readouterr().err.splitlines()
        assert bool(warnings) == (name == "odd")
    names = [line.split()[0] for line in (second, first, both)]
    assert warnings == [
        f"warning: {tmp_path}/list.txt: 1 video ({names[0]}) listed with different labels",
        f"warning: {tmp_path}/list.txt: 1 video ({names[1]}) listed more than once",
        f"warning: 1 video ({names[2]}) of {world.root}/val_frames.txt also in {tmp_path}/list.txt: scores will be too "
        "high",
        f"warning: {tmp_path}/list.txt: 1 class (swimming) without a training clip",
    ]
    for name, num_lines in (("valid", len(lines)), ("odd", len(mistaken))):
        assert len((tmp_path / f"data_check_{name}" / "train_clean.txt").read_text().splitlines()) == num_lines
