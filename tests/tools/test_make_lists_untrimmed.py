"""tools/make_lists.py: annotated segments of ActivityNet and HACS, in their published format."""

import json
from pathlib import Path

import pytest

from datasets.build import read_entries
from tests.tools.list_inputs import add_frames, add_video, lines, missing, printed_yaml, run
from tools import untrimmed
from utils.schema import Config


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
