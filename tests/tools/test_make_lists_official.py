"""tools/make_lists.py: small examples of each data set's official files, in their published format."""

import csv
import json
from pathlib import Path

import pytest

from datasets.build import read_entries
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
from tools import untrimmed
from tools.list_sources import read_kinetics
from utils.errors import UserError
from utils.schema import Config

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


# ActivityNet 1.3


def test_segment_frames():
    def frames(start, end, fps, num_frames):
        return list(untrimmed.segment_frames(untrimmed.Segment(start, end, "a"), fps, num_frames))

    assert frames(0.01, 3.0, 1, 10) == [0, 1, 2]
    assert frames(2.6, 4.2, 1, 10) == [2, 3, 4]
    assert frames(8.5, 20.0, 1, 10) == [8, 9]  # some annotations end after the video
    assert frames(12.0, 20.0, 1, 10) == []
    assert frames(2.5, 2.5, 1, 10) == frames(2.9, 2.1, 1, 10) == []
    assert frames(1.0, 2.0, 2, 10) == [2, 3]


def activitynet_entry(subset, *annotations):
    return {
        "duration": 30.0,
        "subset": subset,
        "resolution": "320x240",
        "url": "https://example.org",
        "annotations": [{"segment": [start, end], "label": label} for start, end, label in annotations],
    }


def test_activitynet(tmp_path, capsys):
    database = {
        "tr_1": activitynet_entry("training", (2.5, 12.0, "Zumba"), (15.0, 40.0, "Archery"), (50.0, 60.0, "Archery")),
        "-gone": activitynet_entry("training", (0.0, 12.0, "Zumba")),
        "va_1": activitynet_entry("validation", (0.0, 4.0, "Archery"), (5.0, 15.0, "BMX"), (20.0, 25.0, "Archery")),
        "te_1": activitynet_entry("testing"),
    }
    content = {"database": database, "taxonomy": [], "version": "VERSION 1.3"}
    (tmp_path / "anet.json").write_text(json.dumps(content))
    add_frames(tmp_path / "frames", "v_tr_1", num_frames=20)
    add_frames(tmp_path / "frames", "va_1", num_frames=30)
    for number in range(1, 21):
        (tmp_path / f"frames/v_tr_1/img_{number:05d}.jpg").write_text(str(number))
    paths = ("--json", tmp_path / "anet.json", "--root", tmp_path / "frames", "--instances", tmp_path / "cut/train")
    instance = tmp_path / "cut/train/tr_1_00"
    for _ in range(2):  # running the command again changes nothing
        assert run("activitynet", *paths, "--out", tmp_path / "out") == 0
        assert lines(tmp_path / "out/anet_train_instance_fps1.txt") == ["tr_1_00 10 199", "tr_1_01 5 1"]
        assert lines(tmp_path / "out/anet_val_video_fps1.txt") == ["va_1 30 4"]
        assert lines(tmp_path / "out/anet_full_for_zeroshot.txt") == ["v_tr_1 20 1", "va_1 30 4"]
        assert [(instance / f"img_{n:05d}.jpg").read_text() for n in range(1, 11)] == [str(n) for n in range(3, 13)]
        assert len(list(instance.iterdir())) == 10
    assert not (instance / "img_00001.jpg").readlink().is_absolute()
    assert missing(tmp_path / "out/anet_train_instance_fps1_missing.csv") == {
        "tr_1_02": "segment 50.0-60.0 s has none of 20 frames",
        "-gone_00": "not found",
    }
    output = capsys.readouterr().out
    assert "1 videos have several classes" in output
    data = printed_yaml(output)
    assert (data["train_root"], data["val_root"]) == (str(tmp_path / "cut/train"), str(tmp_path / "frames"))
    assert data["num_classes"] == 200


@pytest.mark.parametrize("how", [("--kind", "frames"), ("--instances", "cut")])
def test_segments_that_begin_before_the_video_begin_with_it(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    annotations = (-1.0, 5.0, "Zumba"), (-5.0, -1.0, "Zumba"), (4.0, 4.0, "Zumba"), (4.9, 4.1, "Zumba")
    entries = {"a": activitynet_entry("training", *annotations), "b": activitynet_entry("validation", (0, 4, "BMX"))}
    Path("anet.json").write_text(json.dumps({"database": entries}))
    for name in ("v_a", "v_b"):
        add_frames(tmp_path / "frames", name, num_frames=20)
    assert run("activitynet", "--json", "anet.json", "--root", "frames", "--out", "out", *how) == 0
    train = Path("out/anet_train_instance_fps1.txt")
    assert lines(train) == ["a_00 5 199" if how[0] == "--instances" else "v_a 0 5 20 199"]
    assert set(missing(train.with_name("anet_train_instance_fps1_missing.csv"))) == {"a_01", "a_02", "a_03"}
    assert all(link.exists() for link in Path("cut").rglob("*.jpg"))


@pytest.mark.parametrize("fps", ["0", "inf", "nan"])
def test_activitynet_impossible_frame_rates(tmp_path, capsys, fps):
    paths = ("--json", tmp_path / "anet.json", "--root", tmp_path, "--instances", tmp_path / "cut")
    assert run("activitynet", *paths, "--out", tmp_path / "out", "--fps", fps) == 2
    assert f"--fps {fps}: must be finite and above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "contains a list, expected a dict"),
        ('{"x": {}}', 'no "database"'),
        ('{"database": {"v": {"subset": "training", "annotations": [{"label": "BMX"}]}}}', "video v has no subset or"),
        (
            '{"database": {"v": {"subset": "training", "duration": 9, "annotations": [{"label": "BMX", "segment": '
            "[0, Infinity]}]}}}",
            "video v has no subset or",
        ),
        ('{"database": {"v": {"subset": "training", "duration": NaN, "annotations": []}}}', "video v has no subset or"),
        (
            '{"database": {"v": {"subset": "validation", "duration": 1, "annotations": []}}}',
            "video v of validation has no annotation",
        ),
    ],
)
def test_activitynet_errors_name_the_file(tmp_path, capsys, text, message):
    (tmp_path / "anet.json").write_text(text)
    paths = ("--json", tmp_path / "anet.json", "--root", tmp_path, "--instances", tmp_path / "cut")
    assert run("activitynet", *paths, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err


def test_hacs_segments(tmp_path, capsys):
    database = {
        "--0edUL8zmA": activitynet_entry("training", (5.4, 11.6, "Dodgeball"), (12.6, 20.0, "Kickball")),
        "va_1": activitynet_entry("validation", (0.0, 4.0, "Kickball")),
    }
    (tmp_path / "HACS_segments.json").write_text(json.dumps({"database": database}))
    for class_name in ("Dodgeball", "Kickball"):  # the official downloader puts a video beside each of its classes
        add_frames(tmp_path / "frames", f"{class_name}/v_--0edUL8zmA", num_frames=21)
    add_frames(tmp_path / "frames", "Kickball/v_va_1", num_frames=30)
    paths = ("--root", tmp_path / "frames", "--instances", tmp_path / "cut", "--out", tmp_path / "out")
    assert run("hacs", "--annotations", tmp_path / "HACS_segments.json", *paths) == 0
    assert lines(tmp_path / "out/train.txt") == ["--0edUL8zmA_00 7 0", "--0edUL8zmA_01 8 1"]
    assert lines(tmp_path / "out/val.txt") == ["Kickball/v_va_1 30 1"]
    data = printed_yaml(capsys.readouterr().out)
    assert data["dataset"] == "hacs" and data["val_root"] == str(tmp_path / "frames")


def test_hacs_clips(tmp_path, capsys):
    rows = ["classname,youtube_id,subset,start,end,label", "Archery,a2X2hz1G6i8,training,1.5,3.5,1"]
    rows += ["Archery,a2X2hz1G6i8,training,7.5,9.5,-1", "Archery,va_1,validation,0.0,2.0,1", "Archery,te,testing,0,2,1"]
    (tmp_path / "HACS_clips.csv").write_text("\n".join(rows) + "\n")
    for name in ("v_a2X2hz1G6i8", "v_va_1"):
        add_frames(tmp_path / "frames", f"Archery/{name}", num_frames=40)
    paths = ("--root", tmp_path / "frames", "--instances", tmp_path / "cut", "--out", tmp_path / "out", "--fps", 8)
    assert run("hacs", "--annotations", tmp_path / "HACS_clips.csv", *paths) == 0
    assert lines(tmp_path / "out/train.txt") == ["a2X2hz1G6i8_00 16 0"]
    assert lines(tmp_path / "out/val.txt") == ["va_1_00 16 0"]
    assert printed_yaml(capsys.readouterr().out)["val_root"] == str(tmp_path / "cut")
    (tmp_path / "HACS_clips.csv").write_text("\n".join([rows[0], rows[1].replace("1.5", "soon")]))
    assert run("hacs", "--annotations", tmp_path / "HACS_clips.csv", *paths) == 2
    assert "HACS_clips.csv:2: start or end is not a number" in capsys.readouterr().err
    (tmp_path / "HACS_clips.csv").write_text("\n".join([rows[0], rows[1][:-1] + "2"]))
    assert run("hacs", "--annotations", tmp_path / "HACS_clips.csv", *paths) == 2
    assert "HACS_clips.csv:2: label is '2'; expected 1 or -1" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["frames", "video"])
def test_segments_by_their_seconds(tmp_path, capsys, kind):
    database = {
        "a": activitynet_entry("training", (5.4, 11.6, "Dodgeball"), (12.6, 45.25, "Kickball"), (31, 32, "Kickball")),
        "b": activitynet_entry("validation", (0.0, 4.0, "Kickball")),
    }
    (tmp_path / "segments.json").write_text(json.dumps({"database": database}))
    for name in ("v_a", "v_b"):
        add_frames(tmp_path / "data", name, num_frames=9) if kind == "frames" else add_video(
            tmp_path / "data", name + ".mp4"
        )
    paths = ("--annotations", tmp_path / "segments.json", "--root", tmp_path / "data", "--out", tmp_path / "out")
    assert run("hacs", *paths, "--kind", kind, "--fps", "0.3") == 0
    end, frames = (".mp4", "") if kind == "video" else ("", " 9")
    assert lines(tmp_path / "out/train.txt") == [f"v_a{end} 5.4 11.6{frames} 0", f"v_a{end} 12.6 30{frames} 1"]
    assert lines(tmp_path / "out/val.txt") == [f"v_b{end} 0 30{frames} 1"]
    assert missing(tmp_path / "out/train_missing.csv") == {"a_02": "segment 31.0-32.0 s of 30.0 s is empty"}
    printed = printed_yaml(capsys.readouterr().out)
    assert printed["list_times"] is True and printed.get("frame_rate") == (0.3 if kind == "frames" else None)
    entries = read_entries(Config.model_validate({"data": printed}), printed["train_list"])
    assert [(entry.label, entry.times) for entry in entries] == [(0, (5.4, 11.6)), (1, (12.6, 30))]
    assert run("hacs", *paths, "--kind", "video", "--instances", tmp_path / "cut") == 2
    assert "--instances: needs frame folders" in capsys.readouterr().err


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
