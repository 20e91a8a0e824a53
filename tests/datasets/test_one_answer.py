"""One answer for each file: list reader, check_data, extract_frames, pack_videos and predict's windows give the same
frames of it, those that ffmpeg shows, or refuse it in the same words."""

import csv
import io
import itertools
import math
import os
import re
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from datasets.entries import ListEntry
from datasets.image_decoding import MAX_PIXELS
from datasets.packed_clip import PackedClip
from datasets.pyav_source import PyAVVideo
from datasets.readers import open_video
from datasets.video_decoder import VideoDecoder
from inference.frame_streams import frames_of, live_frames
from tests.datasets.helpers import (
    REAL_VIDEOS,
    VIDEOS_DIR,
    needs,
    needs_real_videos,
    write_growing_frames,
    write_skipped_frames,
    write_video,
)
from tests.datasets.test_video_readers import DECODERS
from tests.tools.loading import load_tool, run_tool
from tools.check_data import check_entry
from utils.errors import UserError
from utils.schema import DataConfig

extract_frames, pack_videos = load_tool("extract_frames"), load_tool("pack_videos")

CASES_DIR = Path(os.environ.get("CASES_DIR", VIDEOS_DIR.parent / "cases")) / "real"
CASES = {
    "joined_ts_half_lost/videos/a/joined.ts": 800,
    "mirrored_video_upside_down/hflip.mp4": 50,
    "mirrored_video_upside_down/vflip.mp4": 50,
    "messages_that_do_not_help/rot90.mp4": 50,
    "size_changes_midway/turned.mkv": 50,
    "time_jump_endless/jump_1h.mkv": 50,
    "time_jump_endless/jump_30y.mkv": 50,
    "time_jump_endless/jump_lies.mkv": 50,
    "trimmed_mp4_refused/videos/a/clip_1.mp4": 302,
    "trimmed_mp4_refused/videos/a/hevc_open_gop_cut.mp4": 72,
    "ts_starts_mid_gop/cut.ts": 50,
}
needs_cases = pytest.mark.skipif(not CASES_DIR.is_dir(), reason=f"no real clips at {CASES_DIR}: set CASES_DIR")
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")

MAX_JPEG_DIFFERENCE = 1.0
MAX_FFMPEG_DIFFERENCE = 1.5  # levels, mean of a frame: other versions round a little differently


def by_list(path: Path, _: Path) -> np.ndarray:
    with PyAVVideo(path) as video:
        return video.read(np.arange(video.num_frames)).permute(0, 2, 3, 1).numpy()


def by_windows(path: Path, _: Path) -> np.ndarray:
    return np.stack([frame.pixels().permute(1, 2, 0).numpy() for frame in frames_of(path, 25)])


def _reported(out: Path) -> None:
    with (out / "report.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    if row["status"] == "failed":
        raise UserError(row["reason"])


def by_extracting(path: Path, work: Path) -> np.ndarray:
    run_tool(extract_frames, str(path.parent), str(work / "frames"), "--workers", "1", "--quality", "95")
    _reported(work / "frames")
    images = sorted((work / "frames" / path.stem).iterdir())
    return np.stack([np.asarray(Image.open(image)) for image in images])


def by_packing(path: Path, work: Path) -> np.ndarray:
    run_tool(pack_videos, str(path.parent), str(work / "packed"), "--workers", "1", "--quality", "95")
    _reported(work / "packed")
    with PackedClip(work / "packed" / f"{path.stem}.mkv") as clip:
        return clip.read(np.arange(clip.num_frames)).permute(0, 2, 3, 1).numpy()


READERS = {"list": by_list, "windows": by_windows, "extract": by_extracting, "pack": by_packing}


def answers(path: Path, work: Path) -> dict[str, np.ndarray | str]:
    """The frames of each reader, (N,H,W,3) uint8, or its error message without the file name."""
    work.mkdir()
    (work / "alone").mkdir()
    path = Path(shutil.copy(path, work / "alone" / path.name))
    found = {}
    for name, read in READERS.items():
        try:
            found[name] = read(path, work)
        except UserError as error:
            found[name] = str(error).removeprefix(f"{path}: ")
    return found


def as_jpeg(frame: np.ndarray) -> np.ndarray:
    """A frame, (H,W,3), as the tools store it."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95)
    return np.asarray(Image.open(buffer))


def check(path: Path) -> dict:
    """The result of check_data for the file."""
    data = DataConfig.model_validate({"modality": "video"})
    return check_entry(data, "train", "list.txt", str(path.parent), ListEntry(path.name, 0, 0, 1))


def assert_one_answer(path: Path, work: Path) -> np.ndarray | str:
    found = answers(path, work)
    first, checked = found["list"], check(path)
    if isinstance(first, str):
        assert found == dict.fromkeys(READERS, first)
        assert checked["status"] == "bad"
        assert re.sub(r"^.*? \(listed at list\.txt:1\): ", "", checked["reason"]) == first
        return first
    assert checked["status"] == "good" and checked["num_frames"] == len(first)
    assert {name: frames.shape for name, frames in found.items()} == dict.fromkeys(READERS, first.shape)
    assert np.array_equal(found["windows"], first)
    assert np.array_equal(found["extract"], found["pack"])
    for packed, frame in zip(found["pack"], first):
        assert np.abs(packed.astype(np.int16) - as_jpeg(frame)).mean() < MAX_JPEG_DIFFERENCE
    return first


def by_ffmpeg(path: Path, height: int, width: int) -> np.ndarray:
    """Frames by the ffmpeg program, (N,H,W,3)."""
    command = ["ffmpeg", "-v", "error", "-i", path, "-an", "-sn", "-fps_mode", "passthrough", "-pix_fmt", "rgb24"]
    data = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


def assert_as_ffmpeg(path: Path, frames: np.ndarray) -> None:
    expected = by_ffmpeg(path, *frames.shape[1:3])
    assert len(expected) == len(frames)
    assert np.abs(expected.astype(np.int16) - frames).mean(axis=(1, 2, 3)).max() < MAX_FFMPEG_DIFFERENCE


@needs_real_videos
@needs_ffmpeg
@pytest.mark.parametrize("name", REAL_VIDEOS)
def test_real_clips(tmp_path, name):
    frames = assert_one_answer(VIDEOS_DIR / name, tmp_path / "work")
    assert len(frames) == REAL_VIDEOS[name]
    if name != "two_streams_audio.mp4":  # older versions of ffmpeg choose the other stream
        assert_as_ffmpeg(VIDEOS_DIR / name, frames)


@needs_cases
@needs_ffmpeg
@pytest.mark.parametrize("name", CASES)
def test_cases_of_bug_reports(tmp_path, name):
    frames = assert_one_answer(CASES_DIR / name, tmp_path / "work")
    assert len(frames) == CASES[name]
    assert_as_ffmpeg(CASES_DIR / name, frames)


@needs_real_videos
def test_the_corrupted_clip_is_refused_everywhere(tmp_path):
    assert "could not be decoded" in assert_one_answer(VIDEOS_DIR / "corrupted.mp4", tmp_path / "work")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_truncated_gif_is_refused(tmp_path, share):
    """FFmpeg decodes its last frame with the available pixels."""
    write_video(tmp_path / "whole.gif", 20, codec="gif", pix_fmt="rgb8")
    data = (tmp_path / "whole.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(data[: int(share * len(data))])
    message = "the file is truncated; copy or download it again"
    assert assert_one_answer(tmp_path / "cut.gif", tmp_path / "work") == message
    (tmp_path / "end.gif").write_bytes(data[:-1])  # without its last byte, which says that it ends
    assert len(assert_one_answer(tmp_path / "end.gif", tmp_path / "work2")) == 20


def test_animated_webp_is_refused(tmp_path):
    """Whether FFmpeg supports it depends on its version."""
    pictures = [Image.new("RGB", (64, 48), (40 * number, 90, 90)) for number in range(4)]
    pictures[0].save(tmp_path / "animated.mp4", "WEBP", save_all=True, append_images=pictures[1:])
    message = "could not be decoded (unsupported container); the file is corrupted or not a video"
    assert assert_one_answer(tmp_path / "animated.mp4", tmp_path / "work") == message


GENERATED = {
    "packed_b_frames.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "animated.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "open_gop.ts": {"options": {"x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0"}},
    "interlaced.mp4": {"options": {"x264-params": "interlaced=1"}, "size": (64, 64)},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "no_times.h264": {"options": {"g": "12", "bf": "0"}},
    "phone.3g2": {"codec": "mpeg4"},
    "camera.mjpeg": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}


@needs_ffmpeg
@pytest.mark.parametrize("name", GENERATED)
def test_containers_and_codecs(tmp_path, name):
    write_video(tmp_path / name, 40, **GENERATED[name])
    frames = assert_one_answer(tmp_path / name, tmp_path / "work")
    assert len(frames) == 40
    assert_as_ffmpeg(tmp_path / name, frames)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_recording_that_begins_before_its_first_keyframe(tmp_path, share):
    write_video(tmp_path / "whole.ts", 60, options={"g": "12", "bf": "2"})
    data = (tmp_path / "whole.ts").read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(data[188 * int(len(data) // 188 * share) :])
    assert 12 <= len(assert_one_answer(path, tmp_path / "work")) < 60


@needs_ffmpeg
@pytest.mark.parametrize("name", ["cut.mkv", "cut.mp4"])
def test_a_copy_that_begins_with_an_open_group_of_pictures(tmp_path, name):
    """Its second packet asks the decoder to release a frame that is missing."""
    x264 = {"preset": "medium", "x264-params": "open-gop=1:keyint=12:scenecut=0:threads=1"}
    write_video(tmp_path / "whole.mp4", 60, options=x264)
    cut = ("-ss", "1.2", "-i", tmp_path / "whole.mp4", "-c", "copy", tmp_path / name)
    subprocess.run(["ffmpeg", "-v", "error", *cut], check=True)
    assert_as_ffmpeg(tmp_path / name, assert_one_answer(tmp_path / name, tmp_path / "work"))


@needs_ffmpeg
@pytest.mark.parametrize("matrix", list(itertools.product((1, -1), (1, -1), (False, True))))
def test_rotated_and_mirrored(tmp_path, matrix):
    """The eight display matrices of an MP4 file."""
    path = tmp_path / "turned.mp4"
    write_video(path, 6)
    data = bytearray(path.read_bytes())
    first, second, is_transposed = matrix
    a, b, c, d = (0, first, second, 0) if is_transposed else (first, 0, 0, second)
    at = data.find(b"tkhd") + 44  # of a box of version 0
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    frames = assert_one_answer(path, tmp_path / "work")
    assert frames.shape == ((6, 64, 48, 3) if is_transposed else (6, 48, 64, 3))
    assert_as_ffmpeg(path, frames)


def test_frames_of_other_sizes_are_scaled_to_the_first(tmp_path):
    for name, size in (("a.ts", (48, 64)), ("b.ts", (64, 48))):
        write_video(tmp_path / name, 10, size=size)
    path = tmp_path / "turned.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    assert assert_one_answer(path, tmp_path / "work").shape == (20, 48, 64, 3)


def write_declared_samples(path: Path, num_samples: int, num_tracks: int = 1, num_bytes: int = 64) -> None:
    """An MP4 file of `num_bytes` of media whose sample tables declare this many frames of one byte in each track."""

    def box(kind: bytes, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return struct.pack(">I", 8 + len(content)) + kind + content

    def full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
        return box(kind, struct.pack(">I", flags), *parts)

    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    header = struct.pack(">IIIIIH", 0, 0, 10**7, num_samples, 65536, 256) + bytes(10) + matrix + bytes(24)
    track = struct.pack(">IIIII", 0, 0, 1, 0, num_samples) + bytes(16) + matrix + struct.pack(">II", 64 << 16, 64 << 16)
    entry = bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HHII", 64, 64, 72 << 16, 72 << 16) + bytes(4)
    entry += struct.pack(">H", 1) + bytes(32) + struct.pack(">Hh", 24, -1)
    tables = (
        full(b"stsd", struct.pack(">I", 1), box(b"raw ", entry)),
        full(b"stts", struct.pack(">III", 1, num_samples, 1)),
        full(b"stsc", struct.pack(">IIII", 1, 1, num_samples, 1)),
        full(b"stsz", struct.pack(">II", 1, num_samples)),
        full(b"stco", struct.pack(">II", 1, 28)),  # behind the two headers
    )
    data = box(b"dinf", full(b"dref", struct.pack(">I", 1), full(b"url ", flags=1)))
    media = box(
        b"mdia",
        full(b"mdhd", struct.pack(">IIIIHH", 0, 0, 10**7, num_samples, 0x55C4, 0)),
        full(b"hdlr", bytes(4) + b"vide" + bytes(12) + b"V\0"),
        box(b"minf", full(b"vmhd", bytes(8), flags=1), data, box(b"stbl", *tables)),
    )
    tracks = num_tracks * [box(b"trak", full(b"tkhd", track, flags=3), media)]
    movie = box(b"moov", full(b"mvhd", header, struct.pack(">I", 2)), *tracks)
    path.write_bytes(box(b"ftyp", b"isom\0\0\2\0isom") + box(b"mdat", bytes(num_bytes)) + movie)


@pytest.mark.parametrize(("num_samples", "num_tracks"), [(10**8, 1), (2 * 10**7, 4)])
def test_tables_that_declare_too_much_are_refused_before_they_are_built(tmp_path, num_samples, num_tracks):
    path = tmp_path / "bomb.mp4"
    write_declared_samples(path, num_samples, num_tracks)
    assert path.stat().st_size < 3000
    message = f"its index declares {num_samples * num_tracks} samples"
    assert message in assert_one_answer(path, tmp_path / "work")


def test_more_packets_than_a_file_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.video_file.MAX_PACKETS", 1000)
    path = tmp_path / "packets.mp4"
    write_declared_samples(path, 2000, num_bytes=2000)
    assert "has more frames than the limit of 1000" in assert_one_answer(path, tmp_path / "work")


def test_frames_without_changes(tmp_path):
    path = tmp_path / "skipped.mp4"
    write_skipped_frames(path, 600)
    assert len(assert_one_answer(path, tmp_path / "work")) == 600


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.ffconcat"])
def test_lists_of_other_files_are_refused(tmp_path, name, decoder):
    write_video(tmp_path / "secret.ts", 5)
    content = f"ffconcat version 1.0\nfile {tmp_path}/secret.ts\n"
    if name != "list.ffconcat":
        content = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n"
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match="could not be decoded"):
        PyAVVideo(path)
    with pytest.raises(UserError, match="could not be decoded"):
        next(frames_of(path, 25))
    if name == "list.mp4":  # the tools pass over files of the other suffixes
        assert "could not be decoded" in assert_one_answer(path, tmp_path / "work")
    needs(decoder)
    with pytest.raises(UserError, match="the file is corrupted or not a video"):
        open_video(path, decoder)


def test_a_frame_that_grows_past_the_limit_is_refused(tmp_path):
    """The limit on pixels applies to every frame, not only the first."""
    path = tmp_path / "huge.mkv"
    write_growing_frames(path, math.isqrt(MAX_PIXELS) + 8)
    message = f"a frame has more pixels than the limit of {MAX_PIXELS}; the file is corrupted, or must be made smaller"
    assert assert_one_answer(path, tmp_path / "huge") == message
    path = tmp_path / "growing.mkv"
    write_growing_frames(path)
    with VideoDecoder(path, max_pixels=64 * 64) as video, pytest.raises(UserError, match=r"growing\.mkv: a frame has"):
        list(video.frames())
    with pytest.raises(UserError, match=r"growing\.mkv: a frame has .* the limit of 4096"):
        list(live_frames(f"file:{path}", None, 64 * 64))
    with pytest.raises(UserError, match=r"growing\.mkv: a frame has 64x64 pixels, more than the limit of 4000"):
        list(live_frames(f"file:{path}", None, 4000))
    assert len(assert_one_answer(path, tmp_path / "work")) == len(list(live_frames(f"file:{path}", None))) == 8


def test_a_stream_that_grows_past_the_limit_is_refused(tmp_path):
    """H.264 keeps the size of a frame that it refuses, where motion JPEG has none."""
    for name, size in (("a.ts", (48, 64)), ("b.ts", (96, 128))):
        write_video(tmp_path / name, 4, size=size)
    path = tmp_path / "growing.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    with VideoDecoder(path, max_pixels=64 * 64) as video, pytest.raises(UserError, match="a frame has 128x96 pixels, "):
        list(video.frames())


def write_cut(path: Path, source: Path, first: int) -> None:
    """The MP4 `source` (25 frames per second) cut without encoding: frames before `first` are hidden by an edit
    list."""
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as whole, av.open(str(path), "w", container_options=options) as cut:
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(whole.streams.video[0]):
            if packet.dts is not None:
                shift = round(Fraction(first, 25) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                cut.mux(packet)


def test_the_only_keyframe_is_hidden(tmp_path):
    """A short clip cut with `ffmpeg -ss ... -c copy` has one keyframe, before its first frame."""
    write_video(tmp_path / "whole.mp4", 30, options={"bf": "0"})
    write_cut(tmp_path / "cut.mp4", tmp_path / "whole.mp4", 10)
    frames = assert_one_answer(tmp_path / "cut.mp4", tmp_path / "work")
    assert np.array_equal(frames, by_list(tmp_path / "whole.mp4", tmp_path)[10:])
