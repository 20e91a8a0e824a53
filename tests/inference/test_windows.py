"""Windows of files, folders and streams: their frames, times and memory."""

import http.server
import os
import sys
import threading
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import sampling
from datasets.build import Views, build_eval_loader
from datasets.transforms import EvalTransform, Resize
from datasets.video_dataset import FrameChooser
from inference import windows as windows_module
from inference.frame_streams import measure_seconds
from inference.video_inputs import expand_inputs, is_live, read_class_names
from inference.windows import WindowReader, build_window_reader
from modules.pixels import with_preprocessing
from tests.datasets.helpers import VIDEOS_DIR, full_decode, needs_real_videos, picture, write_frames, write_video
from utils.errors import UserError
from utils.schema import Config


def reader(num_segments: int = 4, seg_length: int = 1, size: int = 32, **rule) -> WindowReader:
    return WindowReader(FrameChooser("test", num_segments, seg_length, **rule), EvalTransform(Resize(size), size))


def fitted(frames: np.ndarray, size: int = 32) -> torch.Tensor:
    """(N,H,W,3) frames as the reader gives them: (N,3,S,S)."""
    return EvalTransform(Resize(size), size)(torch.from_numpy(frames).permute(0, 3, 1, 2)[None], 0, None)[0][0]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Ten seconds: 250 frames, 25 a second, all different."""
    path = tmp_path_factory.mktemp("windows") / "ten.mp4"
    write_video(path, 250, size=(32, 48))
    return path


@pytest.mark.parametrize("modality", ["video", "RGB"])
def test_a_whole_video_is_the_clip_of_test_py(tmp_path, modality):
    write_video(tmp_path / "a.mp4", 23, size=(36, 48))
    write_frames(tmp_path / "a", 23, height=36, width=48)
    (tmp_path / "list.txt").write_text("a.mp4 0\n" if modality == "video" else "a 23 0\n")
    data = {"modality": modality, "num_segments": 4, "input_size": 32, "num_classes": 1, "workers": 0}
    cfg = with_preprocessing(
        Config.model_validate({"data": {**data, "val_root": str(tmp_path), "val_list": str(tmp_path / "list.txt")}})
    )
    tested = next(iter(build_eval_loader(cfg, views=Views())))["frames"][0]
    source = tmp_path / ("a.mp4" if modality == "video" else "a")
    (window,) = build_window_reader(cfg).windows(source)
    assert torch.equal(window.clip[None], tested)
    assert (window.start, window.end) == (0.0, pytest.approx(23 / 25, abs=0.05))


def test_windows_take_the_frames_of_their_seconds(video):
    frames = fitted(full_decode(video))
    found = list(reader().windows(video, window=4, stride=2))
    assert [(w.start, w.end) for w in found] == [(0, 4), (2, 6), (4, 8), (6, 10)]
    for w in found:
        first = round(w.start * 25)
        assert torch.equal(w.clip, frames[[first, first + 25, first + 50, first + 75]])


def test_the_last_window_ends_with_the_video(video):
    found = list(reader().windows(video, window=4, stride=4))
    assert [(w.start, w.end) for w in found] == [(0, 4), (4, 8), (6, 10)]
    assert reader().num_windows(video, 4, 4) == 3


def test_segments_of_several_frames_take_consecutive_frames(video):
    frames = fitted(full_decode(video))
    first = next(reader(2, 3).windows(video, window=4))
    assert torch.equal(first.clip, frames[[0, 1, 2, 50, 51, 52]])


def test_a_short_video_is_one_clip_unless_windows_are_set(video):
    assert len(list(reader().windows(video))) == 1
    assert len(list(reader().windows(video, window=10))) == 1
    assert len(list(reader().windows(video, window=5))) == 3
    assert len(list(reader().windows(video, window=0))) == 1


def test_windows_of_a_folder_of_frames_follow_its_frame_rate(tmp_path):
    write_frames(tmp_path / "f", 12, height=32, width=32)
    found = list(reader(2).windows(tmp_path / "f", window=4, stride=4, fps=2))
    assert [(w.start, w.end) for w in found] == [(0, 4), (2, 6)]
    # JPEG changes a smooth picture by a few levels.
    near = (found[1].clip[0].float() - picture(4, 32, 32).float()).abs().mean()
    assert near < 8 < (found[1].clip[0].float() - picture(5, 32, 32).float()).abs().mean()


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    write_frames(tmp_path / "a", 12, height=32, width=32)
    for path in sorted((tmp_path / "a").iterdir()):
        path.rename(tmp_path / "a" / f"frame{int(path.stem[4:])}.jpg")
    write_frames(tmp_path / "b", 12, height=32, width=32)
    clips = [next(reader(12).windows(tmp_path / name)).clip for name in "ab"]
    assert torch.equal(*clips)


def test_a_file_read_as_a_stream_gives_the_same_windows_and_the_rest(video):
    from_file = list(reader().windows(video, window=4, stride=4))
    live = list(reader().windows(f"file:{video}", window=4, stride=4))
    assert [(w.start, w.end) for w in live] == [(0, 4), (4, 8), (8, 10)]
    assert all(torch.equal(a.clip, b.clip) for a, b in zip(from_file[:2], live))
    frames = fitted(full_decode(video))
    assert torch.equal(live[2].clip, frames[[200, 200, 225, 225]])  # two of the four places were reached


def test_a_stream_over_http_ends_after_its_seconds(tmp_path):
    video = tmp_path / "ten.mkv"
    write_video(video, 250, size=(32, 48))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.func.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/{video.name}"
        found = list(reader().windows(url, window=2, stride=2, max_seconds=6))
        with pytest.raises(UserError, match="missing.mkv: could not be opened"):
            list(reader().windows(url.replace(video.name, "missing.mkv")))
        server.shutdown()
    assert [(w.start, w.end) for w in found] == [(0, 2), (2, 4), (4, 6)]


def test_a_missing_camera_is_a_one_line_error(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(UserError, match="^camera 97: could not be opened"):
        list(reader().windows(97))
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UserError, match="^camera 97: .* URL"):
        list(reader().windows("97"))


def test_only_open_windows_are_in_memory(video, monkeypatch):
    """Windows of a video of 1000 frames never have the frames of more than two windows in memory."""
    alive, most = [], 0
    make = windows_module._OpenWindow

    def counted(*arguments):
        nonlocal most
        window = make(*arguments)
        alive.append(window)
        most = max(most, sum(w.end > alive[-1].start for w in alive))
        return window

    monkeypatch.setattr(windows_module, "_OpenWindow", counted)
    assert len(list(reader().windows(video, window=1, stride=0.5))) == 19
    assert most <= 2


def test_dense_models_get_windows_of_128_frames(tmp_path):
    found = reader(dense=True)._plan(None, None, Fraction(60))
    assert found == (Fraction(128, 25), Fraction(64, 25))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": -1}, "window -1"),
        ({"window": float("nan")}, "window nan"),
        ({"window": 2, "stride": 0}, "stride 0"),
        ({"stride": float("inf")}, "stride inf"),
        ({"fps": float("nan")}, "fps nan"),
        ({"max_seconds": float("nan")}, "seconds nan"),
        ({"window": 1e-9}, "window 1e-09"),
        ({"stride": 1e-9}, "stride 1e-09"),
    ],
)
def test_impossible_windows(video, options, message):
    with pytest.raises(UserError, match=message):
        list(reader().windows(video, **options))


def test_windows_without_end_are_refused(tmp_path):
    write_frames(tmp_path / "v", 2)
    with pytest.raises(UserError, match="more than 1048576 windows in 2e.08 seconds; set a longer stride"):
        reader().num_windows(tmp_path / "v", 1, None, fps=1e-8)


def test_unreadable_files_are_a_one_line_error(tmp_path, video):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:-4000])
    for name, message in (
        ("text.mp4", "not a video"),
        ("cut.mp4", "corrupted|truncated"),
        ("no.mp4", "no such video file"),
        ("empty", "no JPEG or PNG images"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            list(reader().windows(tmp_path / name, window=1))
        assert "\n" not in str(caught.value)


@needs_real_videos
def test_windows_cover_real_clips_to_their_end():
    for name in ("h265_video.mp4", "mpeg4_part2.avi", "flipping_a_pancake.mkv", "two_streams_audio.mp4"):
        found = list(reader().windows(VIDEOS_DIR / name, window=0.3, stride=0.3))
        seconds = float(measure_seconds(VIDEOS_DIR / name))
        assert found[-1].end == pytest.approx(seconds, abs=0.15), name
        assert all(w.clip.shape == (4, 3, 32, 32) for w in found)
    with pytest.raises(UserError):
        list(reader().windows(VIDEOS_DIR / "corrupted.mp4", window=0.3))


def test_inputs_are_expanded_in_sorted_order(tmp_path):
    for name in ("b/10.mp4", "b/9.mp4", "a.mkv", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    write_frames(tmp_path / "c" / "frames", 2)
    root = str(tmp_path)
    inside = [f"{root}/a.mkv", f"{root}/b/9.mp4", f"{root}/b/10.mp4", f"{root}/c/frames"]
    assert expand_inputs([tmp_path]) == inside
    assert expand_inputs([f"{root}/b/*.mp4", f"{root}/a.mkv", "0", "rtsp://x/y"]) == [
        inside[1], inside[2], inside[0], "0", "rtsp://x/y",
    ]  # fmt: skip
    assert expand_inputs([f"{root}/c/frames"]) == inside[3:]
    assert expand_inputs([f"{root}/*"]) == [inside[0], *inside[1:3], inside[3], f"{root}/notes.txt"]
    with pytest.raises(UserError, match="no file matches"):
        expand_inputs([f"{root}/*.avi"])
    (tmp_path / "d").mkdir()
    with pytest.raises(UserError, match="neither videos nor images"):
        expand_inputs([tmp_path / "d"])


def test_nothing_in_a_folder_is_passed_over_in_silence(tmp_path, capsys):
    write_frames(tmp_path / "videos", 1)  # a thumbnail beside folders
    (tmp_path / "videos" / "a").mkdir()
    for name in ("1.mp4", "2.mxf", "notes"):
        (tmp_path / "videos" / "a" / name).touch()
    assert expand_inputs([tmp_path / "videos"]) == [f"{tmp_path}/videos", f"{tmp_path}/videos/a/1.mp4"]
    skipped = "videos: skipped files whose extension is not that of a video: 1 no extension, 1 .mxf\n"
    assert capsys.readouterr().err.endswith(skipped)

    def doubt(*names: str) -> str:
        folder = tmp_path / f"frames{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name in names:
            (folder / name).touch()
        assert expand_inputs([folder]) == [str(folder)]
        return capsys.readouterr().err

    assert "frame 2 is followed by 4" in doubt("1.jpg", "2.jpg", "4.jpg", "5.jpg")
    assert "frame 2 is followed by 1" in doubt("a1_1.jpg", "a1_2.jpg", "a2_1.jpg", "a2_2.jpg")
    assert "different names (flow_#.jpg, img_#.jpg)" in doubt("flow_1.jpg", "img_1.jpg")
    assert "different names (#.jpg, #.png)" in doubt("1.jpg", "1.png")
    assert doubt("f0.jpg", "f12.JPG", "f25.jpg", "f37.jpg") == ""


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)  # permissions do not hold for root
    with pytest.raises(UserError, match=r"closed: cannot be read \(Permission denied\)"):
        expand_inputs([tmp_path])


def test_live_sources_are_recognised(tmp_path, monkeypatch):
    assert [is_live(s) for s in (0, "0", "rtsp://x", "http://x/a.mp4", "file:/a")] == [True] * 5
    assert [is_live(s) for s in ("a.mp4", tmp_path, "C:/a.mp4", "a:b.mp4")] == [False] * 4
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ab:dir").mkdir()
    assert not is_live("ab:dir/") and is_live("ab:other/")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").mkdir()
    assert not is_live("7")


def test_typed_classes(tmp_path):
    assert read_class_names(" riding a bike , cooking,") == ["riding a bike", "cooking"]
    assert read_class_names(["a, b", "c"]) == ["a, b", "c"]
    with pytest.raises(UserError, match="classes: 'caf.udce9' is not UTF-8 text"):
        read_class_names("tea," + os.fsdecode(b"caf\xe9"))
    assert len(read_class_names(", ".join(f"action number {i}" for i in range(600)))) == 600  # longer than any path
    (tmp_path / "names.csv").write_text("id,name\n1,b\n0,a\n")
    assert read_class_names(str(tmp_path / "names.csv")) == ["a", "b"]
    for same in ("a, b, a", "Run, run", "a  b, a b", "caf\u00e9, cafe\u0301"):
        with pytest.raises(UserError, match="given twice"):
            read_class_names(same)
    for name in ("names.txt", "a/b.json"):
        with pytest.raises(UserError, match=f"{name}: no such file"):
            read_class_names(name)
    with pytest.raises(UserError, match="no classes given"):
        read_class_names(" , ")


def test_windows_of_linspace_end_with_their_last_frame(video):
    """A window's frames are those that the rule takes of a video as long as the window."""
    path, frames = video, full_decode(video)
    rule = reader(5, rule="linspace")
    (whole,) = rule.windows(path, window=0)
    assert torch.equal(whole.clip, fitted(frames[sampling.linspace(len(frames), 5)]))
    windows = list(rule.windows(path, window=2, stride=1))
    for second, window in enumerate(windows):
        assert torch.equal(window.clip, fitted(frames[25 * second + sampling.linspace(50, 5)]))
    assert len(windows) == 9
    (first, *_) = reader(1, rule="linspace").windows(path, window=2)
    assert torch.equal(first.clip, fitted(frames[:1]))
