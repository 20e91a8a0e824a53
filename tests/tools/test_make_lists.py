"""tools/make_lists.py: class folders, mistakes, and the documentation of "Your own videos"."""

import importlib
import os
import re
import shlex
from pathlib import Path

import av
import numpy as np
import pytest

from datasets.lists import read_labels
from tests.commands.world import REPO
from tests.faults_of import error_line
from tests.reading import read_frame_list, read_video_list
from tests.tools.list_inputs import (
    add_frames,
    add_video,
    lines,
    missing,
    printed_yaml,
    run,
    shipped_names,
)
from tests.tools.loading import run_tool
from tools.list_writing import Labels, write_list
from utils.config import load_config
from utils.errors import UserError

# folders


def test_all_clips_can_be_in_the_validation_list(tmp_path, capsys):
    for name in ("a/1", "a/2", "b/1"):
        add_frames(tmp_path / "data", name)
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out", "--val_share", 1) == 0
    output = capsys.readouterr().out
    assert lines(tmp_path / "out/val.txt") == ["a/1 8 0", "a/2 8 0", "b/1 8 1"]
    assert not (tmp_path / "out/train.txt").exists() and "train_list" not in printed_yaml(output)
    assert "all clips are used for validation" in output and "random" not in output


def test_folders_split_is_seeded_class_by_class_and_complete(tmp_path, capsys):
    for class_name, count in (("riding_a_bike", 10), ("cooking rice", 5), ("alone", 1)):
        for number in range(count):
            add_frames(tmp_path / "data", f"{class_name}/clip {number}", num_frames=8 + number)
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out", "--seed", 3) == 0
    output = capsys.readouterr().out
    assert read_labels(tmp_path / "out/labels.csv") == ["alone", "cooking rice", "riding a bike"]
    train = read_frame_list(tmp_path / "out/train.txt", 3)
    val = read_frame_list(tmp_path / "out/val.txt", 3)
    assert [entry.label for entry in val] == [1, 2, 2]
    assert len({entry.path for entry in [*train, *val]}) == len([*train, *val]) == 16
    assert all(entry.num_frames == 8 + int(entry.path[-1]) for entry in [*train, *val])
    assert "no clip of 1 classes: alone" in output
    assert printed_yaml(output) == {
        "dataset": "data",
        "modality": "RGB",
        "num_classes": 3,
        "image_tmpl": "img_{:05d}.jpg",
        "index_bias": 1,
        "train_root": str(tmp_path / "data"),
        "train_list": str(tmp_path / "out/train.txt"),
        "val_root": str(tmp_path / "data"),
        "val_list": str(tmp_path / "out/val.txt"),
        "label_list": str(tmp_path / "out/labels.csv"),
    }
    first = lines(tmp_path / "out/val.txt")
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out", "--seed", 3) == 0
    assert lines(tmp_path / "out/val.txt") == first
    others = set()
    for seed in range(4, 8):
        assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out", "--seed", seed) == 0
        others.add(tuple(lines(tmp_path / "out/val.txt")))
    assert others != {tuple(first)}
    add_frames(tmp_path / "data", "a new class/clip")  # does not change the split of other classes
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "new", "--seed", 3) == 0
    assert [line.rsplit(" ", 1)[0] for line in lines(tmp_path / "new/val.txt")] == [
        line.rsplit(" ", 1)[0] for line in first
    ]


def test_the_printed_lines_replace_those_of_the_same_names_in_a_recipe(tmp_path, capsys):
    for number in range(4):
        add_frames(tmp_path / "frames", f"cooking/{number}")
    assert run("folders", "--root", tmp_path / "frames", "--out", tmp_path / "lists") == 0
    printed = capsys.readouterr().out.split("data:\n")[1]
    recipe = (REPO / "configs/k400/k400_train_rgb_vitb-32-f8.yaml").read_text()
    for name in re.findall(r"^  (\w+):", printed, re.MULTILINE):
        recipe = re.sub(rf"^  {name}:.*\n", "", recipe, flags=re.MULTILINE)
    (tmp_path / "my.yaml").write_text(recipe.replace("\ndata:\n", f"\ndata:\n{printed}"))
    data = load_config(tmp_path / "my.yaml", [], "train").config.data
    assert (data.num_classes, data.train_root, data.num_segments) == (1, str(tmp_path / "frames"), 8)


def test_from_another_folder_the_config_gets_absolute_paths(tmp_path, capsys, monkeypatch):
    for number in range(4):
        add_frames(tmp_path / "frames", f"cooking/{number}")
    monkeypatch.chdir(tmp_path)
    assert run("folders", "--root", "frames", "--out", "lists") == 0
    data = printed_yaml(capsys.readouterr().out)
    assert data["val_root"] == str(tmp_path / "frames")
    assert data["train_list"] == str(tmp_path / "lists/train.txt")
    assert data["label_list"] == str(tmp_path / "lists/labels.csv")
    monkeypatch.setattr("tools.list_writing.REPOSITORY", tmp_path)
    assert run("folders", "--root", "frames", "--out", "lists") == 0
    assert printed_yaml(capsys.readouterr().out)["train_root"] == "frames"


def test_folders_with_train_and_val_of_videos(tmp_path, capsys):
    for name in ("train/b/1.mp4", "train/a/deep/2.mkv", "val/a/3.webm", "val/b/4.AVI"):
        add_video(tmp_path / "data", name)
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out", "--kind", "video") == 0
    assert lines(tmp_path / "out/train.txt") == ["train/a/deep/2.mkv 0", "train/b/1.mp4 1"]
    assert lines(tmp_path / "out/val.txt") == ["val/a/3.webm 0", "val/b/4.AVI 1"]
    assert len(read_video_list(tmp_path / "out/train.txt", 2)) == 2
    data = printed_yaml(capsys.readouterr().out)
    assert data["modality"] == "video"
    assert "image_tmpl" not in data


def test_folders_take_the_order_of_labels_or_of_a_shipped_list(tmp_path):
    for name in shipped_names("hmdb51_labels.csv"):
        add_video(tmp_path / "hmdb", f"{name.replace(' ', '_')}/1.avi")
        add_video(tmp_path / "hmdb", f"{name.replace(' ', '_')}/2.avi")
    assert run("folders", "--root", tmp_path / "hmdb", "--out", tmp_path / "out", "--kind", "video") == 0
    assert read_labels(tmp_path / "out/labels.csv") == shipped_names("hmdb51_labels.csv")
    (tmp_path / "mine.csv").write_text("id,name\n0,Wave\n1,Chew\n")
    options = ("--root", tmp_path / "hmdb", "--out", tmp_path / "two", "--kind", "video")
    assert run("folders", *options, "--labels", tmp_path / "mine.csv") == 0
    assert [re.sub(r"/\d.avi", "", line) for line in lines(tmp_path / "two/train.txt")] == ["chew 1", "wave 0"]


def test_faulty_frame_folders_are_left_out_and_named(tmp_path, capsys):
    for number in range(6):
        add_frames(tmp_path / "data", f"a/{number}", first=0)
    (tmp_path / "data/a/1/img_00003.jpg").unlink()
    add_frames(tmp_path / "data", "a/late", first=5)
    add_frames(tmp_path / "data", "a/few", first=0, num_frames=3)
    (tmp_path / "data/a/.partial").mkdir()
    (tmp_path / "data/a/.partial/img_00001.jpg").write_bytes(b"")
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out") == 0
    reasons = missing(tmp_path / "out/train_missing.csv") if (tmp_path / "out/train_missing.csv").exists() else {}
    if (tmp_path / "out/val_missing.csv").exists():
        reasons |= missing(tmp_path / "out/val_missing.csv")
    assert reasons == {
        "a/1": "frames 0 to 7 have gaps: only 7 files",
        "a/late": "frames start at 5, but in most folders at 0",
    }
    output = capsys.readouterr().out
    assert printed_yaml(output)["index_bias"] == 0
    assert "1 have fewer than 8 frames" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--root", "nowhere"), "nowhere: no such folder"),
        (("--root", "empty"), "contains no folder with files such as img_00001.jpg"),
        (("--root", "flat", "--kind", "video"), "is not in a class folder"),
        (("--root", "mixed", "--kind", "video"), "mixed: contains train and val and other folders, such as b"),
        (("--root", "untrained", "--kind", "video"), "untrained: contains only Test and val; add the folder train, or"),
        (("--root", "lone", "--kind", "video"), "is not in a class folder; expected train/CLASS/1.mp4"),
        (("--root", "good", "--template", "img_{:05d}.webp"), "must be a name with one number field and .jpg or"),
        (("--root", "good", "--kind", "video", "--val_share", "1.5"), "--val_share 1.5: must be above 0"),
        (
            ("--root", "split", "--kind", "video", "--val_share", "0.5"),
            "split is already split into train and val; remove",
        ),
        (("--root", "good", "--template", "img.jpg"), "--template img.jpg"),
        (("--root", "good", "--kind", "video", "--labels", "bad.csv"), "bad.csv:1"),
        (("--root", "good", "--kind", "video", "--out", "/proc/x"), "--out /proc/x: cannot be written"),
        (("--root", "good", "--kind", "video", "--out", "bad.csv"), "--out bad.csv: is a file; give a folder"),
    ],
)
def test_mistakes_are_one_line_errors(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for name in (
        "flat/1.mp4",
        "mixed/train/a/1.mp4",
        "mixed/val/a/1.mp4",
        "mixed/b/1.mp4",
        "untrained/val/a/1.mp4",
        "untrained/Test/a/1.mp4",
        "lone/train/1.mp4",
        "split/train/a/1.mp4",
        "split/val/a/1.mp4",
        "good/a/1.mp4",
        "good/a/2.mp4",
    ):
        add_video(tmp_path, name)
    Path("bad.csv").write_text("name,id\na,0\n")
    assert run("folders", *([] if "--out" in options else ["--out", "out"]), *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Train", "Val"), ("training", "Validation")])
def test_folders_of_splits_are_the_splits_whatever_their_case(tmp_path, capsys, train, test):
    for class_name in ("walk", "run"):
        add_video(tmp_path / "data", f"{train}/{class_name}/1.mp4")
        add_video(tmp_path / "data", f"{test}/{class_name}/2.mp4")
    add_video(tmp_path / "data", f"@eaDir/{train}/run/1.mp4")
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out", "--kind", "video") == 0
    assert lines(tmp_path / "out/train.txt") == [f"{train}/run/1.mp4 0", f"{train}/walk/1.mp4 1"]
    assert lines(tmp_path / "out/val.txt") == [f"{test}/run/2.mp4 0", f"{test}/walk/2.mp4 1"]
    assert ("test is used for validation" in capsys.readouterr().out) == (test == "test")


def test_a_train_folder_alone_is_split_at_random(tmp_path, capsys):
    for name in ("run/1", "run/2", "walk/1", "walk/2"):
        add_video(tmp_path / "data", f"Train/{name}.mp4")
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out", "--kind", "video") == 0
    assert read_labels(tmp_path / "out/labels.csv") == ["run", "walk"]
    assert [len(lines(tmp_path / f"out/{part}.txt")) for part in ("train", "val")] == [2, 2]
    assert f"in {tmp_path / 'data/Train'}, the only split folder, with --seed 0" in capsys.readouterr().out
    words = ("folders", "--root", tmp_path / "data", "--out", tmp_path / "all", "--kind", "video", "--val_share", 1)
    assert run(*words) == 0
    assert f"all clips in {tmp_path / 'data/Train'}, the only split folder, are used for" in capsys.readouterr().out


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train/1", "train/2", "plane/1", "plane/2"):
        add_video(tmp_path / "data", f"{name}.mp4")
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out", "--kind", "video") == 0
    assert read_labels(tmp_path / "out/labels.csv") == ["plane", "train"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train/a/1", "val/a/2", "loose"), "data/loose.mp4: is not in a class folder; expected train/CLASS/loose.mp4"),
        (("train/a/1", "val/.hidden"), "data: no clip for val.txt; each split folder needs one, and a class two for"),
        (("train/a/1", "train/b/1"), "data: no clip for val.txt; "),
        (("a/1", "a/2", os.fsdecode(b"\xe9/1")), r"data/\xe9: the name is not UTF-8; rename the class folder"),
        (("train/a/1", os.fsdecode(b"val/\xe9/1")), r"data/val/\xe9: the name is not UTF-8; rename the class folder"),
    ],
)
def test_nothing_is_written_for_clips_and_classes_that_no_list_can_contain(tmp_path, capsys, names, message):
    for name in names:
        add_video(tmp_path / "data", f"{name}.mp4")
    code = run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out", "--kind", "video")
    assert message in error_line(code, capsys) and not (tmp_path / "out").exists()


def test_frames_directly_in_a_split_folder_are_in_no_class_folder(tmp_path, capsys):
    for name in ("train", "train/walk/1", "val/walk/1"):
        add_frames(tmp_path / "data", name, num_frames=8)
    code = run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out")
    assert "data/train: is not in a class folder; expected train/CLASS/train" in error_line(code, capsys)


def test_a_test_split_beside_train_and_val_is_listed_but_not_in_the_config(tmp_path, capsys):
    for part in ("train", "val", "test"):
        add_video(tmp_path / "data", f"{part}/walk/1.mp4")
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out", "--kind", "video") == 0
    assert lines(tmp_path / "out/test.txt") == ["test/walk/1.mp4 0"]
    assert [key for key in printed_yaml(capsys.readouterr().out) if key.endswith("_list")] == [
        "train_list",
        "val_list",
        "label_list",
    ]


def test_numbered_folders_are_sorted_by_number_with_a_warning(tmp_path, capsys):
    for number in (1, 2, 3, 10, 11):
        add_video(tmp_path / "data", f"{number}/a.mp4")
        add_video(tmp_path / "data", f"{number}/b.mp4")
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out", "--kind", "video") == 0
    assert read_labels(tmp_path / "out/labels.csv") == ["1", "2", "3", "10", "11"]
    assert "WARNING: the class names are numbers" in capsys.readouterr().out


def test_omitted_files_are_counted_and_named(tmp_path, capsys):
    names = ["a/1.mp4", "a/1.mkv", "a/2.mp4", "a/My video .mp4", "a/line\nbreak.mp4", "a/3.webp", "a/4.webp", "b/1.mp4"]
    for name in [*names, "b/2.mp4", os.fsdecode(b"b/caf\xe9.mp4")]:
        add_video(tmp_path / "data", name)
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out", "--kind", "video") == 0
    assert "skipped files whose extension is not that of a video: 2 .webp" in capsys.readouterr().out
    reasons = {}
    for part in ("train", "val"):
        path = tmp_path / f"out/{part}_missing.csv"
        reasons |= missing(path) if path.exists() else {}
    assert r"b/caf\xe9" in reasons
    assert len(reasons) == 3  # a space before the extension can be listed
    assert any("extension" in reason for reason in reasons.values())
    assert any("line break" in reason for reason in reasons.values())
    assert any("UTF-8" in reason for reason in reasons.values())
    for part in ("train", "val"):
        assert read_video_list(tmp_path / f"out/{part}.txt", 2)


def test_frame_folders_that_end_with_a_blank_are_left_out(tmp_path):
    for name in ("a/My video ", "a/1", "a/2", "b/1", "b/2"):
        add_frames(tmp_path / "data", name)
    assert run("folders", "--root", tmp_path / "data", "--out", tmp_path / "out") == 0
    for part in ("train", "val"):
        for entry in read_frame_list(tmp_path / f"out/{part}.txt", 2):
            assert (tmp_path / "data" / entry.path).is_dir()
    found = [missing(path) for path in (tmp_path / "out").glob("*_missing.csv")]
    assert found == [{"a/My video ": "the name begins or ends with a space, which lists do not preserve; rename it"}]


# docs/data.md, "Your own videos": its commands, as written on the page


def write_small_video(path, num_frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * index, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_the_instructions_for_your_own_videos_work(tmp_path, monkeypatch):
    page = (REPO / "docs/data.md").read_text()
    section = page.split("## Your own videos")[1].split("\n## ")[0]
    commands = re.findall(r"^python -m tools.*$", section, re.MULTILINE)
    assert [command.split()[2] for command in commands] == ["tools.extract_frames", *["tools.make_lists"] * 2]
    for class_name in ("riding_a_bike", "cooking"):
        for number in range(5):
            write_small_video(tmp_path / f"my_videos/{class_name}/{number}.mp4", 12)
    monkeypatch.chdir(tmp_path)
    for command in commands:
        _, _, module, *words = shlex.split(command)
        assert run_tool(importlib.import_module(module), *words) == 0
    for folder, reader in (("my_lists", read_frame_list), ("my_video_lists", read_video_list)):
        names = read_labels(tmp_path / folder / "labels.csv")
        assert names == ["cooking", "riding a bike"]
        train, val = (reader(tmp_path / folder / f"{part}.txt", len(names)) for part in ("train", "val"))
        assert (len(train), len(val)) == (8, 2)
        root = tmp_path / ("my_frames" if reader is read_frame_list else "my_videos")
        for entry in (*train, *val):
            assert (root / entry.path).exists()
            assert entry.path.startswith(("cooking/", "riding_a_bike/")[entry.label])
            assert entry.num_frames in (12, None)


def test_a_list_without_any_clip_names_the_first_missing_one(tmp_path):
    missing_clips = [("walk/1.mp4", "no such file"), ("run/1.mp4", "no such file")]
    message = 'none of the 2 listed clips were found under --root; first: "walk/1.mp4" (no such file); check --root'
    with pytest.raises(UserError, match=re.escape(message)):
        write_list(tmp_path, "train", [], missing_clips, Labels(["walk", "run"], "labels.csv"))
    assert not list(tmp_path.iterdir())
