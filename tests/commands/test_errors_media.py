"""error_messages.md: frames and videos. Each row is a validation list with one damaged clip."""

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.commands.errors_page import expect, rows_of
from tests.datasets.helpers import picture, write_frames, write_video

FRAMES, VIDEOS = rows_of("Frames"), rows_of("Videos")
FIRST = "img_00001.jpg"
Case = Callable[[Path], None]  # damages the valid clip at this path


def first_frame(content: Callable[[bytes], bytes]) -> Case:
    def damage(clip: Path) -> None:
        (clip / FIRST).write_bytes(content((clip / FIRST).read_bytes()))

    return damage


def image(mode: str, file_format: str, size: tuple[int, int] = (48, 36)) -> bytes:
    pixels = Image.fromarray(picture(0, size[1], size[0]).permute(1, 2, 0).numpy())
    buffer = io.BytesIO()
    pixels.convert(mode).save(buffer, file_format)
    return buffer.getvalue()


def all_frames(mode: str, file_format: str) -> Case:
    def damage(clip: Path) -> None:
        for path in sorted(clip.iterdir()):
            path.write_bytes(image(mode, file_format))

    return damage


def remove_folder(clip: Path) -> None:
    for path in clip.iterdir():
        path.unlink()
    clip.rmdir()


def file_for_folder(clip: Path) -> None:
    remove_folder(clip)
    clip.write_bytes(b"x")


FRAME_CASES = {
    "missing frame": lambda clip: (clip / FIRST).unlink(),
    "missing folder": remove_folder,
    "a file in its place": file_for_folder,
    "truncated JPEG": first_frame(lambda data: data[: len(data) // 2]),
    "zero bytes": first_frame(lambda data: b""),
    "not a picture": first_frame(lambda data: b"hello"),
    "absurd size in the header": first_frame(lambda data: data[:163] + b"\xff\xff\xff\xff" + data[167:]),
    "wrong size within a clip": first_frame(lambda data: image("RGB", "JPEG", (40, 36))),
    "CMYK JPEG": all_frames("CMYK", "JPEG"),
    "greyscale JPEG": all_frames("L", "JPEG"),
    "palette PNG (whatever its name says)": all_frames("P", "PNG"),
}


def sound_only(path: Path) -> None:
    path.unlink()
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)


def without_frames(path: Path) -> None:
    path.unlink()
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 36, "yuv420p"
        container.start_encoding()


def video(**options) -> Case:
    def damage(path: Path) -> None:
        path.unlink()
        write_video(path, **{"num_frames": 9, "size": (36, 48), **options})

    return damage


def folder_for_file(path: Path) -> None:
    path.unlink()
    path.mkdir()


def rotated(path: Path) -> None:
    """Set the track header's matrix (ISO/IEC 14496-12, 8.3.2) to a quarter turn."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    for place, value in enumerate((0, 1 << 16, 0, -(1 << 16), 0)):
        data[at + 4 * place : at + 4 * place + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)


VIDEO_CASES = {
    "missing video": lambda path: path.unlink(),
    "truncated video": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3]),
    "zero bytes": lambda path: path.write_bytes(b""),
    "not a video": lambda path: path.write_text("hello"),
    "a folder in its place": folder_for_file,
    "no video stream (sound only)": sound_only,
    "no frames": without_frames,
    "10-bit video": video(pix_fmt="yuv420p10le"),
    "rotated video": rotated,
    "variable frame rate": video(num_frames=6, times=[0, 1, 5, 6, 20, 50]),
    "one frame": video(num_frames=1),
}


def run_row(world, weights, tmp_path, capsys, outcome, config, entries):
    (tmp_path / "list.txt").write_text("".join(entries))
    words = ("--config", config, "--weights", weights, "--out", tmp_path / "out")
    where = (f"data.val_root={tmp_path / 'clips'}", f"data.val_list={tmp_path / 'list.txt'}")
    expect(outcome, capsys, tmp_path / "out", "test", *words, *where)


@pytest.mark.parametrize("name", list(FRAMES))
def test_frames(world, weights, tmp_path, capsys, name):
    for clip in ("good", "bad"):
        write_frames(tmp_path / "clips" / clip, 9, height=36, width=48)
    FRAME_CASES[name](tmp_path / "clips" / "bad")
    run_row(world, weights, tmp_path, capsys, FRAMES[name], world.config, ("good 9 0\n", "bad 9 1\n"))


@pytest.mark.parametrize("name", list(VIDEOS))
def test_videos(world, weights, tmp_path, capsys, name):
    (tmp_path / "clips").mkdir()
    for clip in ("good.mp4", "bad.mp4"):
        write_video(tmp_path / "clips" / clip, 9, size=(36, 48))
    VIDEO_CASES[name](tmp_path / "clips" / "bad.mp4")
    run_row(world, weights, tmp_path, capsys, VIDEOS[name], world.video_config, ("good.mp4 0\n", "bad.mp4 1\n"))


def test_each_case_has_its_row():
    assert set(FRAMES) == set(FRAME_CASES) and set(VIDEOS) == set(VIDEO_CASES)
