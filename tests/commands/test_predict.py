"""The command line of predict.py: the probabilities of test.py, result files, unreadable files, streams."""

import csv
import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from engine import predict
from inference import load_model
from inference.windows import WindowReader
from modules.attribution import drop_one_frame
from tests.commands.world import CLASSES, REPO, call
from tests.datasets.helpers import write_skipped_frames, write_video
from tests.faults_of import error_line
from utils.errors import UserError
from utils.files import write_text_atomic


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    write_video(path, 100, size=(36, 48))  # 4 seconds
    return path


@pytest.mark.parametrize("kind", ["frames", "videos"])
def test_probabilities_equal_those_of_test_py(world, weights, tmp_path, kind):
    config = world.config if kind == "frames" else world.video_config
    assert call("test", "--config", config, "--weights", weights, "--out", tmp_path / "test") == 0
    with (tmp_path / "test" / "predictions.csv").open() as file:
        tested = {row["path"]: row for row in csv.DictReader(file)}
    out = tmp_path / "out.json"
    videos = [world.root / kind / path for path in tested]
    assert call("predict", *videos, "--config", config, "--weights", weights, "--json", out, "--quiet") == 0
    for video, path in zip(json.loads(out.read_text())["videos"], tested, strict=True):
        assert video["video"].endswith(path)
        for rank, best in enumerate(video["top"], start=1):
            assert best["class"] == tested[path][f"top{rank}"]
            assert best["probability"] == pytest.approx(float(tested[path][f"prob{rank}"]), abs=1e-5)


def test_every_result_of_a_long_video(world, weights, long_video, tmp_path, capsys):
    code = call(
        "predict", long_video, "--config", world.config, "--weights", weights, "--classes", "juggling, a b,c",
        "--window", 1, "--stride", 0.5, "--threshold", 0.2, "--top", 2,
        "--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv", "--pictures", tmp_path / "pictures",
    )  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out
    assert re.search(r"from +to +class +probability", printed)
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["classes"] == ["juggling", "a b", "c"] and content["errors"] == []
    (video,) = content["videos"]
    assert len(video["top"]) == 2 and len(video["windows"]) == 7
    assert video["segments"][0]["start"] == 0 and video["segments"][-1]["end"] == 4
    assert [a["end"] for a in video["segments"][:-1]] == [b["start"] for b in video["segments"][1:]]
    with (tmp_path / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["start"] for row in rows] == [f"{i / 2:.3f}" for i in range(7)] and "prob2" in rows[0]
    for name in ("long.strip.png", "long.timeline.png"):
        with Image.open(tmp_path / "pictures" / name) as image:
            image.load()


def test_the_highlighted_frames_are_below_the_frames(world, tmp_path, monkeypatch):
    """A strip without them is lower. Both have the bars of the report."""
    video = world.root / "videos" / "val_0_0.mp4"
    heights = []
    for name in ("with", "without"):
        folder = tmp_path / name
        assert call("predict", video, "--config", world.config, "--pictures", folder, "--quiet", "--top", 1) == 0
        with Image.open(folder / "val_0_0.strip.png") as image:
            heights.append(image.height)
        monkeypatch.setattr("modules.attribution.has_relevance_maps", lambda network: False)
    assert heights[0] > heights[1]


def test_pictures_have_the_contributions_of_drop_one_frame(world, weights, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr("engine.predict.draw_strips", lambda path, prediction, k: drawn.append(prediction))
    video = world.root / "videos" / "val_0_0.mp4"
    options = ["--config", world.config, "--weights", weights, "--pictures", tmp_path, "--quiet"]
    assert call("predict", video, *options) == 0
    model = load_model(weights, world.config, device="cpu")
    (clip,) = model.clips(video)
    label = int(drawn[0].probabilities[0].argmax())
    expected = drop_one_frame(model.network, clip, torch.from_numpy(model.class_matrix), label)
    ((_, shown),) = drawn[0].clips
    assert expected.abs().max() > 0
    torch.testing.assert_close(shown.contributions, expected, rtol=1e-3, atol=1e-4)


def test_a_bad_file_is_one_line_and_the_others_are_processed(world, tmp_path, capsys):
    (tmp_path / "bad.mp4").write_text("no video")
    good = world.root / "videos" / "val_0_0.mp4"
    out = tmp_path / "r.json"
    code = call("predict", tmp_path / "bad.mp4", good, "--config", world.config, "--json", out)
    printed = capsys.readouterr()
    assert code == 2
    assert [line for line in printed.err.splitlines() if line.startswith("error: ")][0].count("bad.mp4") == 1
    assert str(good) in printed.out and CLASSES[0] in printed.out  # the config's own classes
    content = json.loads(out.read_text())
    assert len(content["videos"]) == 1 and content["errors"][0]["video"].endswith("bad.mp4")


def test_with_quiet_stdout_has_only_json(world, capsys):
    good = world.root / "videos" / "val_0_0.mp4"
    assert call("predict", good, "--config", world.config, "--classes", "a,b", "--json", "-", "--quiet") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["classes"] == ["a", "b"]
    assert printed.err == ""


def test_results_are_written_to_a_pipe_without_replacing_it(world, tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    folder = world.root / "frames" / "val_0_0"
    assert call("predict", folder, "--config", world.config, "--json", pipe, "--quiet") == 0
    reader.join(timeout=30)
    assert json.loads(read[0])["videos"] and pipe.is_fifo()


@pytest.mark.parametrize("option", ["--json", "--csv", "--pictures"])
def test_unwritable_outputs_are_reported_before_the_model_is_loaded(world, tmp_path, option, capsys, monkeypatch):
    (tmp_path / "afile").write_text("")
    monkeypatch.setattr("engine.predict.load_model", None)
    wrong = {"/proc/nope/x": "cannot be written"}
    wrong |= {tmp_path / "afile": "is a file"} if option == "--pictures" else {tmp_path: "is a folder"}
    for path, message in wrong.items():
        error = error_line(
            call("predict", world.root / "frames" / "val_0_0", "--config", world.config, option, path), capsys
        )
        assert error.startswith(f"error: {option} {path}: {message}")


def test_if_one_output_fails_at_the_end_the_other_is_written(world, tmp_path, capsys, monkeypatch):
    def full(target, text):
        if target.endswith(".json"):
            raise OSError(28, "No space left on device")
        write_text_atomic(target, text)

    monkeypatch.setattr("engine.predict_results.write_text_atomic", full)
    options = ["--config", world.config, "--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv"]
    assert call("predict", world.root / "frames" / "val_0_0", *options) == 1
    assert "r.json: cannot be written (No space left on device); choose another file" in capsys.readouterr().err
    assert (tmp_path / "r.csv").read_text().startswith("video,start")


def test_a_single_class_is_a_warning(world, capsys):
    folder = world.root / "frames" / "val_0_0"
    assert call("predict", folder, "--config", world.config, "--classes", "juggling", "--quiet") == 0
    assert "always has probability 1" in capsys.readouterr().err


def test_clip_without_training_is_named(world, capsys):
    folder = world.root / "frames" / "val_0_0"
    assert call("predict", folder, "--config", world.config, "--classes", "a,b", "network.tm=tsm") == 0
    printed = capsys.readouterr().err
    assert "not fine-tuned" in printed and printed.splitlines()[-1].startswith("next: add --pictures FOLDER")


def test_a_closed_stdout_ends_quietly_after_the_files_are_written(world, tmp_path):
    words = (REPO / "predict.py", world.root / "frames" / "val_0_0", "--config", world.config, "--quiet")
    read, write = os.pipe()
    os.close(read)
    files = ("--json", "-", "--csv", tmp_path / "r.csv")
    done = subprocess.run([sys.executable, *words, *files], cwd=REPO, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
    assert (tmp_path / "r.csv").exists()


@pytest.fixture
def full_picture(monkeypatch):
    """The pictures of the second video do not fit on the disk."""
    real = predict.draw_pictures

    def draw(stem, *arguments):
        if stem.name == "val_1_0":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "picture")
        return real(stem, *arguments)

    monkeypatch.setattr(predict, "draw_pictures", draw)


@pytest.mark.usefixtures("full_picture")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_all_outputs_that_fail_are_named(world, tmp_path, capsys):
    videos = [world.root / "videos" / f"val_{number}_0.mp4" for number in range(2)]
    files = ("--json", "/dev/full", "--pictures", tmp_path)
    assert call("predict", *videos, "--config", world.config, *files, "--quiet") == 1
    assert [line.split(";")[0] for line in capsys.readouterr().err.splitlines()] == [
        "error: /dev/full: cannot be written (No space left on device)",
        "error: picture: No space left on device",
    ]


@pytest.mark.usefixtures("full_picture")
def test_results_are_kept_if_the_disk_of_the_pictures_is_full(world, tmp_path, capsys):
    videos = [world.root / "videos" / f"val_{number}_0.mp4" for number in range(3)]
    files = ("--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv", "--pictures", tmp_path / "pictures")
    assert call("predict", *videos, "--config", world.config, *files, "--quiet") == 1
    assert capsys.readouterr().err.startswith("error: picture: No space left on device")
    found = json.loads((tmp_path / "r.json").read_text())["videos"]
    assert [video["video"] for video in found] == list(map(str, videos[:2]))
    assert (tmp_path / "r.csv").exists()


def test_videos_of_the_same_name_get_separate_pictures(world, tmp_path):
    folders = [world.root / "frames" / "val_0_0", world.root / "videos" / "val_0_0.mp4"]
    assert call("predict", *folders, "--config", world.config, "--pictures", tmp_path, "--quiet") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val_0_0.strip.png", "val_0_0_2.strip.png"]


def test_a_stream_prints_a_line_each_stride_and_ends_by_seconds(world, long_video, capsys):
    options = ["--config", world.config, "--window", 1, "--stride", 1, "--seconds", 3, "--top", 1]
    assert call("predict", f"file:{long_video}", *options) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if re.match(r"0:0\d\.0 - 0:0\d\.0  \w", line)]
    assert [line.split()[0] for line in lines] == ["0:00.0", "0:01.0", "0:02.0"]


def test_ctrl_c_keeps_the_results_so_far_of_a_stream(world, long_video, tmp_path, monkeypatch, capsys):
    windows = WindowReader.windows

    def interrupted(self, *arguments, **options):
        yield from itertools.islice(windows(self, *arguments, **options), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(WindowReader, "windows", interrupted)
    options = ["--config", world.config, "--window", 1, "--json", tmp_path / "r.json"]
    assert call("predict", f"file:{long_video}", *options) == 0
    assert "stopped" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "r.json").read_text())["videos"][0]["windows"]) == 2


def test_ctrl_c_keeps_the_results_so_far_of_a_folder(world, tmp_path, monkeypatch, capsys):
    windows, read = WindowReader.windows, []

    def interrupted(self, source, *arguments, **options):
        read.append(source)
        if len(read) == 3:
            raise KeyboardInterrupt
        yield from windows(self, source, *arguments, **options)

    monkeypatch.setattr(WindowReader, "windows", interrupted)
    options = ["--config", world.config, "--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv"]
    assert call("predict", world.root / "videos", *options) == 130
    assert "interrupted: 2 of 24 videos were processed" in capsys.readouterr().err
    assert [video["video"] for video in json.loads((tmp_path / "r.json").read_text())["videos"]] == read[:2]
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 3


def test_an_interrupted_stream_keeps_its_results_and_is_an_error(world, long_video, tmp_path, monkeypatch, capsys):
    windows = WindowReader.windows

    def broken(self, *arguments, **options):
        yield from itertools.islice(windows(self, *arguments, **options), 2)
        raise UserError("rtsp://x: the stream interrupted (timeout)")

    monkeypatch.setattr(WindowReader, "windows", broken)
    options = ["--config", world.config, "--window", 1, "--json", tmp_path / "r.json"]
    assert call("predict", f"file:{long_video}", *options) == 2
    assert capsys.readouterr().err.count("interrupted") == 1
    content = json.loads((tmp_path / "r.json").read_text())
    assert len(content["videos"][0]["windows"]) == 2 and len(content["errors"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no video"),
        (["a.mp4", "--top", "0"], "--top 0"),
        (["a.mp4", "--threshold", "2"], "--threshold 2"),
        (["a.mp4", "--threshold", "nan"], "--threshold nan"),
        (["a.mp4", "--window", "-1"], "--window -1: must be at least 0.001 seconds, or 0 for one clip"),
        (["a.mp4", "--window", "nan"], "--window nan"),
        (["a.mp4", "--stride", "0"], "--stride 0: must be finite and at least 0.001 seconds"),
        (["a.mp4", "--fps", "inf"], "--fps inf"),
        (["a.mp4", "--seconds", "nan"], "--seconds nan"),
        (["a.mp4", "--json", "-", "--csv", "-"], "only one can be written to stdout"),
        (["a.mp4", "--json", "same", "--csv", "./same"], "must be different files"),
        (["a.mp4", "data.num_segmants=4"], "did you mean data.num_segments"),
        (["a.mp4", "netwrk.arch=x"], "netwrk: unknown section; did you mean network?"),
        (["a.mp4", f"netwrk.prompt={'long ' * 100}"], "netwrk: unknown section; did you mean network?"),
        (["*.nothing"], "no file matches"),
    ],
)
def test_mistakes_are_one_line_errors_before_the_model_is_loaded(world, arguments, message, capsys, monkeypatch):
    monkeypatch.setattr("engine.predict.load_model", None)
    assert call("predict", *arguments, "--config", world.config) == 2
    assert message in capsys.readouterr().err


def test_a_video_whose_name_is_like_an_override(world, tmp_path, monkeypatch, capsys):
    name = "take.2=b.mp4"
    shutil.copy(world.root / "videos" / "val_0_0.mp4", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert call("predict", name, "--config", world.config) == 0
    assert name in capsys.readouterr().out


def test_a_text_file_is_not_a_class_name(world, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("juggling\ncooking\n")
    folder = world.root / "frames" / "val_0_0"
    assert call("predict", folder, "--config", world.config, "--classes", tmp_path / "names.txt") == 2
    assert "names.txt: not a .csv file; give a CSV with the columns id,name" in capsys.readouterr().err


def test_three_lines_of_python(world, weights):
    model = load_model(weights, classes=["juggling", "cooking"])
    result = model.predict(world.root / "videos" / "val_0_0.mp4")
    assert "juggling" in str(result) and len(result.top(5)) == 2 and len(result.segments) == 1
    assert model.with_classes("a, b, c").predict(world.root / "frames" / "val_0_0").class_names == ["a", "b", "c"]


def test_untrusted_files_are_decoded_in_child_processes(world, weights, long_video, tmp_path, capsys):
    common = ("--config", world.config, "--weights", weights, "--quiet", "--window", 1, "--json")
    assert call("predict", long_video, *common, tmp_path / "here.json") == 0
    assert call("predict", long_video, *common, tmp_path / "apart.json", "--isolate", 60) == 0
    assert (tmp_path / "here.json").read_text() == (tmp_path / "apart.json").read_text()

    (tmp_path / "half.mp4").write_bytes(long_video.read_bytes()[:3000])
    write_skipped_frames(tmp_path / "slow.mp4", 30_000, size=(1088, 1920))
    capsys.readouterr()
    videos = (tmp_path / "half.mp4", tmp_path / "slow.mp4")
    assert call("predict", *videos, *common, tmp_path / "bad.json", "--isolate", 2) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "half.mp4: " in lines[0] and "error: slow.mp4: took more than 2 s" in lines[1] and len(lines) == 3
    assert len(json.loads((tmp_path / "bad.json").read_text())["errors"]) == 2

    assert call("predict", "rtsp://localhost/x", *common, "-", "--isolate", 2) == 2
    assert "--isolate: only files can be isolated" in capsys.readouterr().err
    assert call("predict", long_video, *common, "-", "--isolate", 0) == 2
    assert "--isolate 0: must be a number of seconds" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text on this system")
def test_a_name_that_is_not_utf8_loses_no_result(world, weights, long_video, tmp_path, capsys):
    videos = []
    for name in (b"caf\xe9.mp4", "\u89c6\u9891".encode("gbk") + b".mp4", b"two\nlines.mp4", b"bad\xe9.mp4"):
        videos.append(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        shutil.copy(long_video, videos[-1])
    with open(videos[-1], "wb") as file:  # noqa: PTH123 (a name of bytes)
        file.write(b"no video")
    files = ("--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv", "--pictures", tmp_path / "pictures")
    assert call("predict", *videos, "--config", world.config, "--weights", weights, *files) == 2
    capsys.readouterr()
    content = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    names = [r"caf\xe9.mp4", "\\xca\\xd3\u01b5.mp4", "two\nlines.mp4"]
    assert [video["video"] for video in content["videos"]] == [f"{tmp_path}/{name}" for name in names]
    assert content["errors"][0]["video"] == f"{tmp_path}/bad\\xe9.mp4"
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        assert {row["video"] for row in csv.DictReader(file)} == {f"{tmp_path}/{name}" for name in names}
    assert len(list((tmp_path / "pictures").glob("*.strip.png"))) == 3
