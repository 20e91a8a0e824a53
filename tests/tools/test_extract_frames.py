"""tools/extract_frames.py: all frames or none, frame rate and size, resuming, and reported failures."""

import json
import resource
import shutil
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.datasets.helpers import REAL_VIDEOS, VIDEOS_DIR, needs_real_videos
from tests.tools.loading import load_tool, read_report, run_tool

extract_frames = load_tool("extract_frames")

WIDTH, HEIGHT, FPS = 64, 48, 10


def grey_level(index):
    return 20 + 5 * (index % 40)


def write_video(path, num_frames=20, seconds_between=None):
    """Write a video in which frame i has the grey level `grey_level(i)`, and a black left quarter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 2_000_000
        stream.codec_context.max_b_frames = 2
        for index in range(num_frames):
            pixels = np.full((HEIGHT, WIDTH, 3), grey_level(index), dtype=np.uint8)
            pixels[:, : WIDTH // 4] = 0
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if seconds_between is not None:
                frame.time_base = Fraction(1, 1000)
                frame.pts = sum(round(1000 * seconds_between(i)) for i in range(index))
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def frame_numbers(folder):
    """0-based source frame of each image, from its grey level."""
    levels = [np.asarray(Image.open(path))[:, -WIDTH // 4 :].mean() for path in sorted(folder.glob("*.jpg"))]
    return [round((level - grey_level(0)) / 5) for level in levels]


def run(videos, out, *options):
    return run_tool(extract_frames, str(videos), str(out), "--workers", "1", *options)


def test_every_frame_in_order_and_the_structure_kept(tmp_path):
    write_video(tmp_path / "videos/a b/c/one.mp4", 20)
    write_video(tmp_path / "videos/two.avi", 7)
    (tmp_path / "videos/notes.txt").write_text("not a video")
    assert run(tmp_path / "videos", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out/a b/c/one").iterdir()) == [
        f"img_{number:05d}.jpg" for number in range(1, 21)
    ]
    assert frame_numbers(tmp_path / "out/a b/c/one") == list(range(20))
    report = read_report(tmp_path / "out")
    assert {path: (row["status"], row["num_frames"]) for path, row in report.items()} == {
        "a b/c/one": ("extracted", "20"),
        "two": ("extracted", "7"),
    }


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        ("1", [0, 10]),
        ("5", [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]),
        ("10", list(range(20))),
        ("4", [0, 2, 5, 7, 10, 12, 15, 17]),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_fps_selects_the_frame_shown_at_that_time(tmp_path, fps, expected, suffix):
    write_video(tmp_path / f"videos/one{suffix}", 20)
    assert run(tmp_path / "videos", tmp_path / "out", "--fps", fps) == 0
    assert frame_numbers(tmp_path / "out/one") == expected


def test_fps_follows_time_stamps_not_frame_numbers(tmp_path):
    # Ten frames per second apart, then ten frames 0.1 s apart.
    write_video(tmp_path / "videos/one.mkv", 20, seconds_between=lambda i: 1.0 if i < 10 else 0.1)
    assert run(tmp_path / "videos", tmp_path / "out", "--fps", "2") == 0
    assert frame_numbers(tmp_path / "out/one") == [i // 2 for i in range(20)] + [10, 15]


def test_short_side_template_and_quality(tmp_path):
    write_video(tmp_path / "videos/one.mp4", 3)
    options = ("--short_side", "24", "--template", "image_{:06d}.jpg")
    assert run(tmp_path / "videos", tmp_path / "fine", *options) == 0
    assert run(tmp_path / "videos", tmp_path / "coarse", *options, "--quality", "10") == 0
    assert Image.open(tmp_path / "fine/one/image_000003.jpg").size == (32, 24)
    sizes = [(tmp_path / name / "one/image_000001.jpg").stat().st_size for name in ("fine", "coarse")]
    assert sizes[0] > sizes[1]
    assert run(tmp_path / "videos", tmp_path / "large", "--short_side", "480") == 0  # not enlarged
    assert Image.open(tmp_path / "large/one/img_00001.jpg").size == (WIDTH, HEIGHT)


def test_a_rotated_video_is_extracted_upright(tmp_path):
    path = write_video(tmp_path / "videos/one.mp4", 3)
    content = path.read_bytes()
    matrix_at = content.index(b"tkhd") + 44  # ISO/IEC 14496-12, track header version 0: 9 numbers, 16.16 and 2.30
    turned = struct.pack(">9i", 0, -(1 << 16), 0, 1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:matrix_at] + turned + content[matrix_at + len(turned) :])
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation == 90
    assert run(tmp_path / "videos", tmp_path / "out") == 0
    image = np.asarray(Image.open(tmp_path / "out/one/img_00001.jpg"))
    assert image.shape == (WIDTH, HEIGHT, 3)
    # After a rotation by 90 degrees counter-clockwise, the black left quarter is at the bottom.
    assert image[-8:].mean() < 6 < image[:8].mean()


def test_corrupted_and_truncated_files_are_reported_and_leave_no_folder(tmp_path, capsys):
    good = write_video(tmp_path / "videos/good.mp4")
    for name in ("cut1.mp4", "cut2.mkv", "cut3.avi"):
        path = write_video(tmp_path / "videos" / name, 100)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    (tmp_path / "videos/text.mp4").write_text("no video at all")
    assert run(tmp_path / "videos", tmp_path / "out") == 1
    report = read_report(tmp_path / "out")
    assert {path for path, row in report.items() if row["status"] == "failed"} == {
        "cut1.mp4",
        "cut2.mkv",
        "cut3.avi",
        "text.mp4",
    }
    assert all(row["reason"] for row in report.values() if row["status"] == "failed")
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == [good.stem]
    assert "4 failed" in capsys.readouterr().out


def test_a_file_with_only_audio_is_reported(tmp_path):
    (tmp_path / "videos").mkdir()
    with av.open(str(tmp_path / "videos/sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), layout="mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    assert run(tmp_path / "videos", tmp_path / "out") == 1
    assert read_report(tmp_path / "out")["sound.mkv"]["reason"] == "no video stream in the file"


def test_a_partially_written_frame_is_an_error(tmp_path):
    """Pillow ignores short writes if it opens the file itself."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            extract_frames.save_frame(pixels, tmp_path / "a.jpg", extract_frames.Settings(None, None, 90, "a.jpg"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert (tmp_path / "a.jpg").stat().st_size == 1000


def test_an_interrupted_run_resumes_and_repeats_incomplete_videos(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        write_video(tmp_path / f"videos/{name}.mp4", 5)
    save_frame = extract_frames.save_frame

    def interrupted_at_b(frame, path, settings):
        if path.parent.name == "b" and path.name == "img_00003.jpg":
            raise KeyboardInterrupt
        save_frame(frame, path, settings)

    monkeypatch.setattr(extract_frames, "save_frame", interrupted_at_b)
    assert run(tmp_path / "videos", tmp_path / "out") == 130
    assert not (tmp_path / "out/b").exists()
    assert read_report(tmp_path / "out")["a"]["status"] == "extracted"
    marker = tmp_path / "out/a/img_00001.jpg"
    before = marker.stat().st_mtime_ns
    monkeypatch.setattr(extract_frames, "save_frame", save_frame)
    assert run(tmp_path / "videos", tmp_path / "out") == 0
    assert marker.stat().st_mtime_ns == before
    assert {path: row["status"] for path, row in read_report(tmp_path / "out").items()} == {
        "a": "present",
        "b": "extracted",
        "c": "extracted",
    }
    assert frame_numbers(tmp_path / "out/b") == [0, 1, 2, 3, 4]
    assert not (tmp_path / "out/.partial").exists()


def test_unusual_properties_of_a_video_are_reported_and_kept(tmp_path):
    """Timestamps that start again in the middle, as in two concatenated recordings."""
    for name in "ab":
        write_video(tmp_path / f"{name}.ts", 60)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/one.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    for _ in range(2):
        assert run(tmp_path / "videos", tmp_path / "out") == 0
        row = read_report(tmp_path / "out")["one"]
        assert (row["status"], row["num_frames"]) == ("short", "120")
        assert row["reason"].startswith("the timestamps jump 1 times")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fps", "0"), "--fps"),
        (("--fps", "1001"), "--fps 1001"),
        (("--fps", "nan"), "--fps nan"),
        (("--quality", "99"), "--quality"),
        (("--short_side", "0"), "--short_side"),
        (("--template", "img.jpg"), "--template"),
        (("--template", "img_{:05d}.png"), "--template"),
    ],
)
def test_wrong_options_are_one_line_errors(tmp_path, capsys, options, message):
    write_video(tmp_path / "videos/one.mp4", 2)
    assert run(tmp_path / "videos", tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_wrong_folders_are_one_line_errors(tmp_path, capsys):
    videos = tmp_path / "videos"
    assert run(videos, tmp_path / "out") == 2
    assert "no such folder" in capsys.readouterr().err
    write_video(videos / "one.mp4", 2)
    assert run(videos, videos / "out") == 2
    assert f"is inside {videos}; choose a folder outside it" in capsys.readouterr().err
    (tmp_path / "afile").write_text("")
    assert run(videos, tmp_path / "afile") == 2
    assert "is a file; give a folder" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    assert run(videos, tmp_path / "mine") == 2
    assert "not empty" in capsys.readouterr().err
    assert run(videos, tmp_path / "out") == 0
    assert run(videos, tmp_path / "out", "--fps", "1") == 2
    assert "other settings (fps None -> 1.0)" in capsys.readouterr().err
    assert json.loads((tmp_path / "out/extract_frames.json").read_text())["fps"] is None
    shutil.copy(videos / "one.mp4", videos / "one.mkv")
    assert run(videos, tmp_path / "out") == 2
    assert "differs only in its extension" in capsys.readouterr().err


@needs_real_videos
def test_real_clips(tmp_path):
    assert run(VIDEOS_DIR, tmp_path / "out", "--short_side", "32") == 1
    rows = read_report(tmp_path / "out")
    counts = {path: int(row["num_frames"]) for path, row in rows.items() if row["status"] == "extracted"}
    assert counts == {Path(name).stem: num_frames for name, num_frames in REAL_VIDEOS.items()}
    assert [path for path, row in rows.items() if row["status"] == "failed"] == ["corrupted.mp4"]


def test_frames_are_synced_before_a_video_counts_as_done(tmp_path, monkeypatch):
    events, rename = [], Path.rename
    monkeypatch.setattr(extract_frames, "sync_path", lambda path: events.append(path.name))
    monkeypatch.setattr(Path, "rename", lambda path, target: (events.append("rename"), rename(path, target)))
    write_video(tmp_path / "videos/one.mp4", 3)
    assert run(tmp_path / "videos", tmp_path / "out") == 0
    assert sorted(events[:4]) == ["img_00001.jpg", "img_00002.jpg", "img_00003.jpg", "one"]
    assert events[4:] == ["rename", "out"]
