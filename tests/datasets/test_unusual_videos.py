"""Videos without usable timestamps, covers of sound files, more than 8 bits, and files that cannot be opened."""

import errno
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from datasets.readers import open_video
from datasets.video_decoder import VideoDecoder
from tests.datasets.helpers import remux, write_video
from tests.datasets.test_one_answer import (
    assert_as_ffmpeg,
    assert_one_answer,
    by_ffmpeg,
    needs_ffmpeg,
)
from utils.errors import UserError

ONE_B_FRAME = {"options": {"g": "12", "bf": "1", "x264-params": "b-adapt=0"}, "pans": True}


def times_of(path: Path) -> tuple[list[float], str]:
    """Begin of each frame and end of the last in seconds, and the notes."""
    with VideoDecoder(path) as video:
        frames = [(float(frame.begin), float(frame.end)) for frame in video.timed_frames()]
        assert float(video.seconds) == pytest.approx(frames[-1][1], abs=0.11)  # approximate, without decoding
        return [begin for begin, _ in frames] + [frames[-1][1]], video.notes()


@needs_ffmpeg
@pytest.mark.parametrize(("name", "codec"), [("a.h264", "libx264"), ("a.hevc", "libx265")])
def test_streams_without_a_container_have_the_frame_rate_of_their_codec(tmp_path, name, codec):
    write_video(tmp_path / name, 20, codec=codec, rate=10)
    times, notes = times_of(tmp_path / name)
    assert times == pytest.approx(np.arange(21) / 10)
    assert notes == "the file has no timestamps; its frame rate of 10 was used"
    assert_as_ffmpeg(tmp_path / name, assert_one_answer(tmp_path / name, tmp_path / "work"))


@needs_ffmpeg
def test_equal_timestamps_are_replaced_by_the_frame_rate(tmp_path):
    def stop(packet: av.Packet) -> None:
        packet.pts = packet.dts = 0

    write_video(tmp_path / "a.mkv", 20, rate=10)
    remux(tmp_path / "a.mkv", tmp_path / "stopped.mkv", stop)
    times, notes = times_of(tmp_path / "stopped.mkv")
    assert times == pytest.approx(np.arange(21) / 10)
    assert notes == "the file has no timestamps; its frame rate of 10 was used"
    assert_as_ffmpeg(tmp_path / "stopped.mkv", assert_one_answer(tmp_path / "stopped.mkv", tmp_path / "work"))


@needs_ffmpeg
def test_timestamps_in_the_order_of_decoding_do_not_reorder_the_frames(tmp_path):
    def decode_order(packet: av.Packet) -> None:
        packet.pts = packet.dts

    write_video(tmp_path / "a.mp4", 20, rate=10, **ONE_B_FRAME)
    remux(tmp_path / "a.mp4", tmp_path / "order.mp4", decode_order)
    frames = assert_one_answer(tmp_path / "order.mp4", tmp_path / "work")
    assert_as_ffmpeg(tmp_path / "order.mp4", frames)
    times, _ = times_of(tmp_path / "order.mp4")
    assert (np.diff(times) > 0).all() and times[-1] == pytest.approx(len(frames) / 10, abs=0.2)


def test_timestamps_in_another_order_than_the_frames_are_refused_by_every_reader(tmp_path):
    """So that a reader that seeks does not return other frames than one that decodes in sequence."""

    def swap(packet: av.Packet) -> None:
        if packet.pts is not None:
            number = round(packet.pts * packet.time_base * 10)
            step = round(Fraction(1, 10) / packet.time_base)
            packet.pts += {3: 1, 4: -1}.get(number, 0) * step
            packet.dts -= 2 * step

    write_video(tmp_path / "a.mkv", 20, rate=10, options={"g": "100", "bf": "0"})
    remux(tmp_path / "a.mkv", tmp_path / "swapped.mkv", swap)
    assert assert_one_answer(tmp_path / "swapped.mkv", tmp_path / "work").startswith("is corrupted: 3 of 20 frames")


def test_the_cover_of_a_sound_is_not_a_video(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic.value
        container.mux(cover.encode(av.VideoFrame(64, 48, "yuvj420p")))
        container.mux(cover.encode(None))
    message = "no video stream in the file, only a cover picture"
    assert assert_one_answer(tmp_path / "song.mp4", tmp_path / "work") == message


@needs_ffmpeg
@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p10le"])
def test_frames_of_10_bits_have_the_chroma_of_ffmpeg(tmp_path, pix_fmt):
    path = tmp_path / "deep.mp4"
    options = {"x265-params": "log-level=none:colormatrix=bt709"}
    write_video(path, 4, codec="libx265", pix_fmt=pix_fmt, options=options)
    frames = assert_one_answer(path, tmp_path / "work")
    assert np.abs(by_ffmpeg(path, 48, 64).astype(int) - frames).mean() < 1


def test_an_avi_that_counts_frames_which_were_never_written(tmp_path):
    write_video(tmp_path / "a.avi", 18, codec="mpeg4")
    data = bytearray((tmp_path / "a.avi").read_bytes())
    for at in (data.find(b"avih") + 8 + 16, data.find(b"strh") + 8 + 32):  # total frames, length
        assert int.from_bytes(data[at : at + 4], "little") == 18
        data[at : at + 4] = (20).to_bytes(4, "little")
    (tmp_path / "a.avi").write_bytes(data)
    assert len(assert_one_answer(tmp_path / "a.avi", tmp_path / "work")) == 18


def test_a_file_without_permission(tmp_path, monkeypatch):
    def refuse(self: Path, *_: object) -> None:  # root may open every file
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    write_video(tmp_path / "a.mp4", 5)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="a.mp4: permission denied"):
        VideoDecoder(tmp_path / "a.mp4")


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(UserError, match="a.mp4: is a pipe or device; expected a video file"):
        open_video(tmp_path / "a.mp4", "pyav")
