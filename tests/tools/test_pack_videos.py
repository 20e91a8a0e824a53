"""tools/pack_videos.py: one complete file or none, the same frames as extract_frames.py, resuming, and the report."""

import errno
import fcntl
import json
import shutil

import av
import numpy as np
import pytest
from PIL import Image

from datasets.packed_clip import PackedClip
from tests.tools.loading import load_tool, read_report, run_tool
from utils.csv_files import read_csv

extract_frames, pack_videos = load_tool("extract_frames"), load_tool("pack_videos")


def write_video(path, num_frames=12, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(num_frames):
            pixels = np.full((size[1], size[0], 3), 5 * index, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def run(*arguments):
    return run_tool(pack_videos, *map(str, arguments), "--workers", "1")


def jpegs_of(path):
    with PackedClip(path) as clip:
        return [clip._image(index)[0] for index in range(clip.num_frames)]


@pytest.mark.parametrize("options", [(), ("--short_side", "24"), ("--quality", "50")])
def test_the_frames_are_those_of_extract_frames(tmp_path, options):
    write_video(tmp_path / "videos/a/one.mp4")
    assert run(tmp_path / "videos", tmp_path / "packed", *options) == 0
    assert run_tool(extract_frames, str(tmp_path / "videos"), str(tmp_path / "frames"), "--workers", "1", *options) == 0
    loose = [path.read_bytes() for path in sorted((tmp_path / "frames/a/one").iterdir())]
    assert jpegs_of(tmp_path / "packed/a/one.mkv") == loose
    with av.open(str(tmp_path / "packed/a/one.mkv")) as container:
        assert [packet.pts for packet in container.demux(video=0) if packet.size] == [100 * i for i in range(12)]


def test_frame_folders_are_copied_byte_for_byte_or_scaled(tmp_path):
    write_video(tmp_path / "videos/a/one.mp4")
    run_tool(extract_frames, str(tmp_path / "videos"), str(tmp_path / "frames"), "--workers", "1")
    loose = [path.read_bytes() for path in sorted((tmp_path / "frames/a/one").iterdir())]
    assert run(tmp_path / "frames", tmp_path / "packed", "--frames", "--short_side", "60", "--fps", "50") == 0
    assert jpegs_of(tmp_path / "packed/a/one.mkv") == loose
    with av.open(str(tmp_path / "packed/a/one.mkv")) as container:
        assert container.duration == 11 * 20_000
    assert run(tmp_path / "frames", tmp_path / "small", "--frames", "--short_side", "24") == 0
    with PackedClip(tmp_path / "small/a/one.mkv") as clip:
        assert clip.read(np.array([3, 11])).shape == (2, 3, 24, 32)


def test_failures_are_reported_and_leave_no_file(tmp_path, capsys):
    write_video(tmp_path / "videos/good.mp4")
    cut = write_video(tmp_path / "videos/cut.mp4", 40)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    (tmp_path / "videos/text.avi").write_text("no video at all")
    out = tmp_path / "packed"
    assert run(tmp_path / "videos", out) == 1
    report = read_report(out)
    assert {path: row["status"] for path, row in report.items()} == {
        "good.mkv": "packed",
        "cut.mp4": "failed",
        "text.avi": "failed",
    }
    assert report["good.mkv"]["num_frames"] == "12" and report["cut.mp4"]["reason"]
    assert sorted(path.name for path in out.iterdir()) == ["good.mkv", "pack_videos.json", "report.csv"]
    assert "1 packed, 0 present, 0 short, 2 failed" in capsys.readouterr().out


def test_a_corrupted_frame_or_a_change_of_size_fails_its_folder(tmp_path):
    for name in ("damaged", "sizes", "good"):
        (tmp_path / "frames" / name).mkdir(parents=True)
        for number in (1, 2):
            Image.new("RGB", (40, 30)).save(tmp_path / "frames" / name / f"img_{number:05d}.jpg")
    (tmp_path / "frames/damaged/img_00002.jpg").write_bytes(b"")
    Image.new("RGB", (30, 40)).save(tmp_path / "frames/sizes/img_00002.jpg")
    assert run(tmp_path / "frames", tmp_path / "packed", "--frames") == 1
    report = read_report(tmp_path / "packed")
    assert report["good.mkv"]["status"] == "packed"
    assert "img_00002.jpg: the file is empty" in report["damaged"]["reason"]
    assert "img_00002.jpg is 30x40, but earlier frames are 40x30" in report["sizes"]["reason"]


def test_an_interrupted_run_is_resumed(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        write_video(tmp_path / f"videos/{name}.mp4")
    real = pack_videos.run_job

    def stopped(root, job, *rest):
        if job.source == "b.mp4":
            raise KeyboardInterrupt
        return real(root, job, *rest)

    out = tmp_path / "packed"
    monkeypatch.setattr(pack_videos, "run_job", stopped)
    assert run(tmp_path / "videos", out) == 130
    assert set(read_report(out)) == {"a.mkv"}
    (out / ".b.mkv.99.tmp").write_bytes(b"what a killed run leaves")
    before = (out / "a.mkv").stat().st_mtime_ns
    monkeypatch.setattr(pack_videos, "run_job", real)
    assert run(tmp_path / "videos", out) == 0
    assert (out / "a.mkv").stat().st_mtime_ns == before
    assert {path: row["status"] for path, row in read_report(out).items()} == {
        "a.mkv": "present",
        "b.mkv": "packed",
        "c.mkv": "packed",
    }
    assert not list(out.glob(".*"))


def test_mistakes_in_the_command(tmp_path, capsys):
    write_video(tmp_path / "videos/a.mp4")
    (tmp_path / "afile").write_text("")
    out = tmp_path / "packed"
    mistakes = {
        "no such folder": (tmp_path / "gone", out),
        "no frame folder": (tmp_path / "videos", out, "--frames"),
        "--quality 0": (tmp_path / "videos", out, "--quality", "0"),
        "--short_side 0": (tmp_path / "videos", out, "--short_side", "0"),
        "--fps 0": (tmp_path / "videos", out, "--frames", "--fps", "0"),
        "one number": (tmp_path / "videos", out, "--frames", "--template", "img.jpg"),
        "--fps 1.0: needs --frames": (tmp_path / "videos", out, "--fps", "1"),
        "--template img_{:05d}.jpg: needs --frames": (tmp_path / "videos", out, "--template", "img_{:05d}.jpg"),
        f"is inside {tmp_path / 'videos'}": (tmp_path / "videos", tmp_path / "videos/packed"),
        "is a file; give a folder": (tmp_path / "videos", tmp_path / "afile"),
        "cannot be written": (tmp_path / "videos", "/proc/packed"),
    }
    for message, arguments in mistakes.items():
        assert run(*arguments) == 2
        assert message in capsys.readouterr().err
    assert run(tmp_path / "videos", out) == 0
    assert set(json.loads((out / "pack_videos.json").read_text())) == {
        "frames",
        "short_side",
        "quality",
        "shards",
        "labels",
    }
    assert run(tmp_path / "videos", out, "--quality", "50") == 2
    assert "quality 90 -> 50" in capsys.readouterr().err
    shutil.copy(tmp_path / "videos/a.mp4", tmp_path / "videos/a.m4v")
    assert run(tmp_path / "videos", tmp_path / "other") == 2
    assert "differs only in its extension" in capsys.readouterr().err


def test_a_killed_run_has_its_report(tmp_path, monkeypatch):
    write_video(tmp_path / "videos/one.mp4")
    write_video(tmp_path / "videos/two.mp4")
    real, seen = pack_videos.run_job, []

    def run_job(root, name, *rest):
        seen.append(read_report(tmp_path / "out"))
        return real(root, name, *rest)

    monkeypatch.setattr(pack_videos, "run_job", run_job)
    run(tmp_path / "videos", tmp_path / "out")
    assert [list(report) for report in seen] == [[], ["one.mkv"]]


def test_a_frame_that_is_a_dangling_link_fails_its_folder(tmp_path):
    for name in ("dangling", "good"):
        (tmp_path / "frames" / name).mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "frames" / name / "img_00001.jpg")
    (tmp_path / "frames/dangling/img_00002.jpg").symlink_to("nowhere.jpg")
    assert run(tmp_path / "frames", tmp_path / "packed", "--frames") == 1
    report = read_report(tmp_path / "packed")
    assert report["good.mkv"]["status"] == "packed"
    assert "img_00002.jpg: cannot be read (No such file" in report["dangling"]["reason"]


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    write_video(tmp_path / "videos/one.mp4")
    assert run(tmp_path / "videos", tmp_path / "out") == 0
    assert "cannot be locked (Operation not supported)" in capsys.readouterr().err


def test_a_corrupted_packed_clip_is_packed_again(tmp_path):
    for name in "ab":
        write_video(tmp_path / f"videos/{name}.mp4")
    out = tmp_path / "packed"
    assert run(tmp_path / "videos", out) == 0
    whole = (out / "a.mkv").read_bytes()
    (out / "a.mkv").write_bytes(whole[: len(whole) // 2])
    assert run(tmp_path / "videos", out) == 0
    assert {path: row["status"] for path, row in read_report(out).items()} == {"a.mkv": "packed", "b.mkv": "present"}
    assert (out / "a.mkv").read_bytes() == whole


def test_a_source_that_is_a_frame_folder_itself(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "walk"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "img_00001.jpg")
    monkeypatch.chdir(folder)
    for out in (tmp_path / "packed", tmp_path / "again"):
        assert run("." if out.name == "again" else folder, out, "--frames") == 0
        assert run(folder, out, "--frames") == 0
        assert {path: row["status"] for path, row in read_report(out).items()} == {"walk.mkv": "present"}
        assert len(jpegs_of(out / "walk.mkv")) == 1
    shutil.copytree(folder, folder / "walk")
    assert run(folder, tmp_path / "both", "--frames") == 2
    assert "another frame folder has the same name" in capsys.readouterr().err


def test_labels_are_checked_before_anything_is_written(tmp_path, capsys):
    for name in ("a/one", "two"):
        write_video(tmp_path / f"videos/{name}.mp4", 2)
    out, labels = tmp_path / "out", tmp_path / "labels.txt"

    def pack(text: str | None) -> tuple[int, str]:
        labels.unlink(missing_ok=True)
        if text is not None:
            labels.write_text(text)
        code = run(tmp_path / "videos", out, "--shards", "1", "--labels", labels)
        return code, capsys.readouterr().err

    for text, message in (
        (None, "labels.txt: no such file"),
        ("two.mp4 x\n", "labels.txt:1: label is 'x'"),
        ("two.mp4 1\ntwo.mp4 2\n", "labels.txt:2: two.mp4 has label [2], but [1] in another line"),
        ("three.mp4 1\n", "lists none of the 2 clips, such as a/one; its paths must start"),
    ):
        code, error = pack(text)
        assert code == 2 and message in error and not out.exists(), error
    code, error = pack("two.mp4 2,5\n")
    assert code == 0 and "warning: 1 of 2 clips are in no list of --labels" in error
    rows = {row["path"]: row["label"] for row in read_csv(out / "shards.csv", ("path", "label"), "")}
    assert rows == {"a/one.mkv": "", "two.mkv": "2,5"}
