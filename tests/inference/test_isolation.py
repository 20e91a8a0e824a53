"""Videos decoded in a child process: the same windows, and a one-line error for each limit."""

import multiprocessing
import os
import signal
import struct
import time
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from datasets.transforms import EvalTransform, Resize
from datasets.video_dataset import FrameChooser
from inference.isolation import DecodingJob, IsolatedVideo
from inference.upload import Limits
from inference.windows import Window, WindowReader
from tests.datasets.helpers import write_growing_frames, write_video
from utils.errors import UserError

READER = WindowReader(FrameChooser("test", 4, 1, False), EvalTransform(Resize(32), 32))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("isolated") / "clip.mp4"
    write_video(path, 100, size=(36, 48))
    return path


@dataclass(frozen=True)
class OddReader:
    """Affects its process as malicious files may affect FFmpeg."""

    deed: str

    def num_windows(self, *_, **__) -> int:
        return 1

    def windows(self, *_, **__):
        yield Window(0.0, 1.0, torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
        if self.deed == "computes":
            while True:
                pass
        elif self.deed == "takes memory":
            kept = [np.ones(10**8, dtype=np.uint8) for _ in range(100)]
            assert len(kept) == 100
        elif self.deed == "takes a tensor's memory":
            torch.ones(10**10, dtype=torch.uint8)
        elif self.deed == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self.deed == "has a bug":
            raise ValueError("a bug")


def open_odd(deed: str, seconds: float = 60) -> IsolatedVideo:
    return IsolatedVideo(DecodingJob(OddReader(deed), "folder/odd.mp4"), seconds, megabytes=300)


@pytest.mark.parametrize("window", [None, 1.0])
def test_windows_are_those_of_the_reader(video, window):
    with IsolatedVideo(DecodingJob(READER, str(video), window), 60) as isolated:
        found = list(isolated.windows())
    expected = list(READER.windows(video, window))
    assert isolated.num_windows == len(expected) == len(found)
    for one, other in zip(found, expected):
        assert one[:2] == other[:2] and torch.equal(one.clip, other.clip)


@pytest.mark.parametrize(
    ("deed", "message"),
    [
        ("takes memory", "odd.mp4: needs more than 300 MB of memory; make its frames smaller"),
        ("takes a tensor's memory", "odd.mp4: needs more than 300 MB of memory; make its frames smaller"),
        (
            "crashes",
            "odd.mp4: its decoding process exited with code -11; the file is corrupted or malicious",
        ),
    ],
)
def test_a_child_that_dies_is_reported_in_one_line(deed, message):
    with open_odd(deed) as video, pytest.raises(UserError) as caught:
        list(video.windows())
    assert str(caught.value) == message


@dataclass(frozen=True)
class TakenOver(DecodingJob):
    """Sends some bytes of its own, closes the pipe or not, and stays."""

    sent: bytes = b""
    closes: bool = False

    def run(self, send) -> None:
        send.text({"num_windows": 1})
        send._file.write(self.sent)
        send._file.flush()
        if self.closes:
            os.close(send._file.fileno())
        time.sleep(600)


@pytest.mark.parametrize(
    ("sent", "closes", "seconds", "message"),
    [
        (b"", False, 1, "took more than 1 s; use"),
        (b"\0\0", False, 1, "took more than 1 s; use"),
        ((1000).to_bytes(8, "big") + b"half a message", False, 1, "took more than 1 s; use"),
        (b"", True, 1, "took more than 1 s; use"),
        (b"\1" + bytes(7), False, 60, f"its decoding process sent {2**56} bytes; the file is malicious"),
    ],
    ids=["nothing", "half a length", "half a message", "a closed pipe", "a huge message"],
)
def test_wall_time_is_limited_whatever_the_child_sends(sent, closes, seconds, message):
    begin = time.monotonic()
    job = TakenOver(READER, "odd.mp4", sent=sent, closes=closes)
    with pytest.raises(UserError, match=f"^odd.mp4: {message}"), IsolatedVideo(job, seconds) as video:
        list(video.windows())
    assert time.monotonic() - begin < 30 and not multiprocessing.active_children()


def test_cpu_time_is_limited_if_nobody_ends_the_child():
    with open_odd("computes", 1) as video:
        video._process.join(120)
        assert video._process.exitcode == -signal.SIGXCPU


def test_a_bug_keeps_its_traceback():
    with open_odd("has a bug") as video, pytest.raises(RuntimeError) as caught:
        list(video.windows())
    assert 'raise ValueError("a bug")' in str(caught.value)


def test_an_abandoned_child_is_killed(video):
    with IsolatedVideo(DecodingJob(READER, str(video), 0.1), 60) as isolated:
        next(isolated.windows())
    assert not isolated._process.is_alive()


def refusal(path, reader=READER, **settings) -> str:
    with pytest.raises(UserError) as caught, IsolatedVideo(DecodingJob(reader, str(path), **settings), 60) as isolated:
        list(isolated.windows())
    return str(caught.value)


def test_limits_of_an_upload_are_checked_in_the_child(video, tmp_path):
    assert "longer than 1 s; shorten it" in refusal(video, limits=Limits(max_seconds=1))
    assert "39 windows of 0.2 s, more than the limit of 10" in refusal(video, window=0.2, max_windows=10)
    assert "no such video file" in refusal(tmp_path / "none.mp4")


def test_a_video_longer_than_its_header_says_is_an_error(tmp_path):
    path = tmp_path / "long.mkv"
    write_video(path, 100, size=(36, 48))
    data = bytearray(path.read_bytes())
    at = data.find(b"\x44\x89\x88") + 3  # Matroska's Duration in milliseconds
    data[at : at + 8] = struct.pack(">d", 1000.0)
    path.write_bytes(data)
    assert "long.mkv: is longer than its header says" in refusal(path, window=0.5, limits=Limits(max_seconds=2))


def test_the_limit_on_pixels_holds_for_every_frame(tmp_path):
    write_growing_frames(tmp_path / "growing.mkv")
    limited = WindowReader(READER.choose_frames, READER.transform, max_pixels=64 * 64)
    for window in (None, 0.1):
        assert "growing.mkv: " in refusal(tmp_path / "growing.mkv", limited, window=window)
    with IsolatedVideo(DecodingJob(READER, str(tmp_path / "growing.mkv")), 60) as isolated:
        assert len(list(isolated.windows())) == 1


def test_memory_depends_on_the_requested_frames(tmp_path):
    """A film of 300 MB in a child that may take half of it: one picture of noise, over and over."""
    path, noise = tmp_path / "film.mkv", np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25, options={"q": "2"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuvj420p"
        encoded = [*stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")), *stream.encode(None)]
        data = bytes(encoded[0])
        for index in range(300 * 10**6 // len(data)):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = index
            container.mux(packet)
    assert path.stat().st_size > 290e6
    job = DecodingJob(READER, str(path), 0)
    with IsolatedVideo(job, 100, megabytes=150) as video:
        assert len(list(video.windows())) == 1
