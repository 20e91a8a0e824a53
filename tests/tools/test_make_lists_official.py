"""tools/make_lists.py: small examples of each data set's official files, in their published format."""

import csv
import json

import pytest

from datasets.lists import read_labels
from tests.commands.world import REPO
from tests.reading import read_frame_list
from tests.tools.list_inputs import (
    add_frames,
    add_video,
    lines,
    missing,
    printed_yaml,
    run,
    shipped_names,
)
from tools.list_sources import read_kinetics
from utils.errors import UserError

# UCF101: classInd.txt with CRLF, ids from 1; train lists with, test lists without the id


def write_ucf101(folder, names):
    folder.mkdir()
    (folder / "classInd.txt").write_bytes("".join(f"{id} {name}\r\n" for id, name in enumerate(names, 1)).encode())
    for split in (1, 2, 3):
        train = [f"{name}/v_{name}_g{8 + split:02d}_c01.avi {id}" for id, name in enumerate(names, 1)]
        (folder / f"trainlist{split:02d}.txt").write_bytes("\r\n".join([*train, ""]).encode())
        test = [f"{name}/v_{name}_g{split:02d}_c01.avi" for name in names]
        (folder / f"testlist{split:02d}.txt").write_bytes("\r\n".join([*test, ""]).encode())


def test_ucf101(tmp_path, capsys):
    names = shipped_names("ucf_labels.csv")
    write_ucf101(tmp_path / "splits", names)
    for group in (1, 2, 3, 9, 10, 11):
        for name in names[:3]:
            add_video(tmp_path / "videos", f"{name}/v_{name}_g{group:02d}_c01.avi")
    (tmp_path / "videos/Archery/v_Archery_g02_c01.avi").unlink()
    options = ("--splits", tmp_path / "splits", "--root", tmp_path / "videos", "--out", tmp_path / "out")
    assert run("ucf101", *options, "--kind", "video") == 0
    assert lines(tmp_path / "out/train_video_split_1.txt") == [
        f"{n}/v_{n}_g09_c01.avi {i}" for i, n in enumerate(names[:3])
    ]
    assert lines(tmp_path / "out/val_video_split_2.txt") == [
        f"{n}/v_{n}_g02_c01.avi {i}" for i, n in enumerate(names[:2])
    ]
    assert len(missing(tmp_path / "out/val_video_split_2_missing.csv")) == 101 - 2
    assert missing(tmp_path / "out/val_video_split_2_missing.csv")["Archery/v_Archery_g02_c01"] == "not found"
    assert read_labels(tmp_path / "out/labels.csv") == names
    assert len(lines(tmp_path / "out/ucf_full_for_zeroshot.txt")) == 6 * 3 - 1  # each clip once
    output = capsys.readouterr().out
    assert "left out: 99 of 101 are missing or unreadable" in output
    assert printed_yaml(output)["val_list"] == str(tmp_path / "out/val_video_split_1.txt")


def test_ucf101_frames_in_one_flat_folder(tmp_path):
    names = shipped_names("ucf_labels.csv")
    write_ucf101(tmp_path / "splits", names)
    for group in (1, 2, 3, 9, 10, 11):
        add_frames(tmp_path / "frames", f"v_Archery_g{group:02d}_c01", num_frames=10 + group)
    options = ("--splits", tmp_path / "splits", "--root", tmp_path / "frames", "--out", tmp_path / "out")
    assert run("ucf101", *options) == 0
    assert lines(tmp_path / "out/train_rgb_split_3.txt") == ["v_Archery_g11_c01 21 2"]


def test_ucf101_class_names_that_differ_are_named(tmp_path, capsys):
    names = shipped_names("ucf_labels.csv")
    write_ucf101(tmp_path / "splits", [*names[:2], "Archerie", *names[3:]])
    add_video(tmp_path / "videos", "Archery/v_Archery_g01_c01.avi")
    options = ("--splits", tmp_path / "splits", "--root", tmp_path / "videos", "--out", tmp_path / "out")
    assert run("ucf101", *options, "--kind", "video") == 2
    captured = capsys.readouterr()
    assert '"Archerie" is not in' in captured.err
    assert 'the nearest is "archery"' in captured.err
    assert "1 classes of" in captured.out


@pytest.mark.parametrize(
    ("file_name", "text", "message"),
    [
        ("classInd.txt", "0 ApplyEyeMakeup\n", 'classInd.txt:1: "0 ApplyEyeMakeup" is not "1 ClassName"'),
        ("testlist02.txt", "\nArchery/a.avi\nArchery\n", 'testlist02.txt:3: "Archery" is not'),
    ],
)
def test_ucf101_errors_name_file_and_line(tmp_path, capsys, file_name, text, message):
    write_ucf101(tmp_path / "splits", shipped_names("ucf_labels.csv"))
    (tmp_path / "splits" / file_name).write_text(text)
    assert run("ucf101", "--splits", tmp_path / "splits", "--root", tmp_path, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err


# HMDB51: a file for each class and split, "video.avi 0|1|2 " with a blank at the end


def test_hmdb51(tmp_path, capsys):
    folder = tmp_path / "testTrainMulti_7030_splits"
    folder.mkdir()
    for name in shipped_names("hmdb51_labels.csv"):
        stem = name.replace(" ", "_")
        for split in (1, 2, 3):
            flags = {1: "120", 2: "210", 3: "012"}[split]
            text = "".join(f"#{clip}_{stem}_f_cm_np1_ba_med_{clip}.avi {flag} \n" for clip, flag in enumerate(flags))
            (folder / f"{stem}_test_split{split}.txt").write_text(text)
    for clip in range(3):
        add_frames(tmp_path / "frames", f"ride_bike/#{clip}_ride_bike_f_cm_np1_ba_med_{clip}", num_frames=20 + clip)
    options = ("--splits", folder, "--root", tmp_path / "frames", "--out", tmp_path / "out")
    assert run("hmdb51", *options) == 0
    label = shipped_names("hmdb51_labels.csv").index("ride bike")
    name = "ride_bike/#{0}_ride_bike_f_cm_np1_ba_med_{0} 2{0} {1}"
    assert lines(tmp_path / "out/train_rgb_split_1.txt") == [name.format(0, label)]
    assert lines(tmp_path / "out/val_rgb_split_1.txt") == [name.format(1, label)]
    assert lines(tmp_path / "out/train_rgb_split_2.txt") == [name.format(1, label)]
    assert lines(tmp_path / "out/val_rgb_split_3.txt") == [name.format(2, label)]
    assert sorted(lines(tmp_path / "out/hmdb_full_for_zeroshot.txt")) == [name.format(clip, label) for clip in range(3)]
    assert "no clip of 50 classes" in capsys.readouterr().out
    (tmp_path / "flat").mkdir()
    for path in (tmp_path / "frames/ride_bike").iterdir():
        path.rename(tmp_path / "flat" / path.name)
    assert run("hmdb51", "--splits", folder, "--root", tmp_path / "flat", "--out", tmp_path / "out") == 0
    assert (
        read_frame_list(tmp_path / "out/train_rgb_split_1.txt", 51)[0].num_frames == 20
    )  # list lines do not begin with "#"


# Kinetics: CSVs whose columns come in either order


def write_kinetics(path, rows, columns="label,youtube_id,time_start,time_end,split"):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns.split(","), extrasaction="ignore")
        writer.writeheader()
        for label, youtube_id, start, end in rows:
            row = {"label": label, "youtube_id": youtube_id, "time_start": start, "time_end": end, "split": "x"}
            writer.writerow(row | {"is_cc": 0})


@pytest.mark.parametrize(
    "columns", ["label,youtube_id,time_start,time_end,split,is_cc", "youtube_id,time_start,time_end,split,label"]
)
def test_kinetics(tmp_path, capsys, columns):
    write_kinetics(tmp_path / "train.csv", [("waxing legs", "-aaa", 3, 13), ("zumba", "b_b", 120, 130)], columns)
    write_kinetics(tmp_path / "val.csv", [("zumba", "ccc", 0, 10), ("waxing legs", "ddd", 0, 10)], columns)
    add_frames(tmp_path / "root", "train/waxing_legs/-aaa_000003_000013", num_frames=300)
    add_frames(tmp_path / "root", "train/zumba/b_b_000120_000130", num_frames=7)
    add_frames(tmp_path / "root", "val/ccc", num_frames=250)
    add_frames(tmp_path / "root", "val/ddd_000007_000017", num_frames=250)  # another clip of the same video
    csvs = ("--train_csv", tmp_path / "train.csv", "--val_csv", tmp_path / "val.csv")
    assert run("kinetics", *csvs, "--root", tmp_path / "root", "--out", tmp_path / "out") == 0
    assert lines(tmp_path / "out/train.txt") == [
        "train/waxing_legs/-aaa_000003_000013 300 0",
        "train/zumba/b_b_000120_000130 7 1",
    ]
    assert lines(tmp_path / "out/val.txt") == ["val/ccc 250 1"]
    assert missing(tmp_path / "out/val_missing.csv") == {"ddd_000000_000010": "not found"}
    assert "1 have fewer than 8 frames" in capsys.readouterr().out


def test_kinetics_400_takes_the_shipped_order_and_zero_shot_splits_filter(tmp_path, capsys):
    names = shipped_names("kinetics_400_labels.csv")
    write_kinetics(tmp_path / "train.csv", [(name, f"id{id}", 0, 10) for id, name in enumerate(reversed(names))])
    add_video(tmp_path / "root", "id0_000000_000010.mp4")
    options = ("--root", tmp_path / "root", "--out", tmp_path / "out", "--kind", "video")
    assert run("kinetics", "--train_csv", tmp_path / "train.csv", *options) == 0
    assert lines(tmp_path / "out/train.txt") == ["id0_000000_000010.mp4 399"]
    assert "in the order of" in capsys.readouterr().out
    new = shipped_names("k600/k160_labels_split2.csv")
    write_kinetics(tmp_path / "test.csv", [(new[7], "id0", 0, 10), (names[0], "id1", 0, 10)])
    labels = ("--labels", REPO / "lists/k600/k160_labels_split2.csv")
    name = ("--name", "test_split2_exist")
    assert run("kinetics", "--val_csv", tmp_path / "test.csv", *labels, *options, *name) == 0
    assert lines(tmp_path / "out/test_split2_exist.txt") == ["id0_000000_000010.mp4 7"]
    output = capsys.readouterr().out
    assert "left out: 1 clips of classes that are not in" in output
    assert "159 classes of" in output
    assert printed_yaml(output)["num_classes"] == 160
    assert "train_list" not in printed_yaml(output)


def test_kinetics_json(tmp_path):
    clips = {
        "-aaa": {"annotations": {"label": "zumba", "segment": [3.0, 13.0]}, "subset": "training"},
        "b_b": {"annotations": {"label": "yoga", "segment": [120, 130]}, "subset": "training"},
    }
    (tmp_path / "train.json").write_text(json.dumps(clips))
    add_video(tmp_path / "root", "zumba/-aaa_000003_000013.mp4")
    add_video(tmp_path / "root", "yoga/b_b.mp4")
    options = ("--root", tmp_path / "root", "--out", tmp_path / "out", "--kind", "video")
    assert run("kinetics", "--train_csv", tmp_path / "train.json", *options) == 0
    assert lines(tmp_path / "out/train.txt") == ["zumba/-aaa_000003_000013.mp4 1", "yoga/b_b.mp4 0"]


def test_kinetics_errors_name_file_and_line(tmp_path, capsys):
    options = ("--root", tmp_path, "--out", tmp_path / "out")
    assert run("kinetics", *options) == 2
    write_kinetics(tmp_path / "test.csv", [("a", "b", 0, 1)])
    both = ("--train_csv", tmp_path / "test.csv", "--val_csv", tmp_path / "test.csv")
    assert run("kinetics", *both, *options, "--name", "k700") == 2
    assert "--name k700: two lists would have this name" in capsys.readouterr().err
    write_kinetics(tmp_path / "test.csv", [("a", "b", 0, 1)], "youtube_id,time_start,time_end,split")
    assert run("kinetics", "--val_csv", tmp_path / "test.csv", *options) == 2
    assert "test.csv:1: missing column label" in capsys.readouterr().err
    write_kinetics(tmp_path / "test.csv", [("a", "b", 0, 1), ("a", "c", "soon", 1)])
    assert run("kinetics", "--val_csv", tmp_path / "test.csv", *options) == 2
    assert "test.csv:3: time_start" in capsys.readouterr().err


def test_a_clip_in_two_folders_is_found_by_its_class_or_named(tmp_path):
    write_kinetics(tmp_path / "train.csv", [("zumba", "aa", 0, 10), ("yoga", "bb", 0, 10)])
    for name in ("zumba/aa_000000_000010", "yoga/aa_000000_000010", "x/bb_000000_000010", "y/bb_000000_000010"):
        add_video(tmp_path / "root", f"{name}.mp4")
    options = ("--root", tmp_path / "root", "--out", tmp_path / "out", "--kind", "video")
    assert run("kinetics", "--train_csv", tmp_path / "train.csv", *options) == 0
    assert lines(tmp_path / "out/train.txt") == ["zumba/aa_000000_000010.mp4 1"]
    assert list(missing(tmp_path / "out/train_missing.csv").values()) == [
        "found more than once: x/bb_000000_000010, y/bb_000000_000010"
    ]


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        (
            "a.csv",
            "label,youtube_id,time_start,time_end\na,v,inf,1\n",
            "a.csv:2: time_start or time_end is not a number",
        ),
        (
            "a.csv",
            f"label,youtube_id,time_start,time_end\n{'a' * 200_000},v,0,1\n",
            "not a valid CSV line (field larger",
        ),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.json", '{"v": {"annotations": {"segment": [0, 1], "label": null}}}', "v has no annotation with label"),
        (
            "a.json",
            '{"v": {"annotations": {"segment": [0, Infinity], "label": "a"}}}',
            "v has no annotation with label",
        ),
    ],
)
def test_annotations_of_another_kind_are_one_line(tmp_path, name, text, part):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        read_kinetics(tmp_path / name)
    assert part in str(caught.value)
