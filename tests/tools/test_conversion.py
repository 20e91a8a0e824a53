"""tools/conversion.py in extract_frames.py and pack_videos.py: one outcome for each video of a folder."""

import errno
import os
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import av
import pytest

from tests.datasets.helpers import write_video
from tests.faults_of import error_line
from tests.tools.loading import load_tool, read_report, run_tool
from utils.files import this_process


class Converter(NamedTuple):
    """A script, its status for new outputs, and its function that writes the frames of a video."""

    module: ModuleType
    made: str
    writer: str

    def run(self, videos, out, workers=1) -> int:
        return run_tool(self.module, videos, out, "--workers", workers)


@pytest.fixture(params=[("extract_frames", "extracted", "save_frame"), ("pack_videos", "packed", "write_packed_clip")])
def converter(request):
    name, made, writer = request.param
    return Converter(load_tool(name), made, writer)


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    return folder


def write_odd_videos(folder):
    """Three valid but unusual files (a title and a file name in Latin-1, the name of a protocol), and a damaged one."""
    titled = folder / "titled.avi"
    write_video(titled, 12, codec="mpeg4")
    list_of_facts = b"INFOINAM\x04\x00\x00\x00\xe9t\xe9\x00"
    content = titled.read_bytes()
    movi_at = content.index(b"movi") - 8
    facts = b"LIST" + len(list_of_facts).to_bytes(4, "little") + list_of_facts
    content = content[:movi_at] + facts + content[movi_at:]
    titled.write_bytes(content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:])
    with pytest.raises(UnicodeDecodeError):
        av.open(str(titled))
    for name in ("12:30.mp4", os.fsdecode(b"caf\xe9.mp4")):
        write_video(folder / "plain.mp4", 12, codec="mpeg4")
        (folder / "plain.mp4").rename(folder / name)
    (folder / os.fsdecode(b"text\xe9.mp4")).write_text("no video at all")


def test_unusual_files_do_not_end_the_run(converter, videos, tmp_path, monkeypatch, capsys):
    write_odd_videos(videos)
    (videos / "gone.mp4").symlink_to("nowhere.mp4")
    monkeypatch.chdir(videos)
    for made in (converter.made, "present"):
        assert converter.run(".", tmp_path / "out") == 1
        report = read_report(tmp_path / "out")
        assert Counter(row["status"] for row in report.values()) == {made: 3, "failed": 2}
        assert {path.partition(".")[0] for path, row in report.items() if row["status"] == "failed"} == {
            "gone",
            os.fsdecode(b"text\xe9"),
        }
        assert r"failed: text\xe9.mp4: " in capsys.readouterr().out


def test_two_workers_write_the_same_files_as_one(converter, videos, tmp_path):
    for name in "ab":
        write_video(videos / f"{name}.mp4", 12)
    (videos / "c.mp4").write_text("no video at all")
    files = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        assert converter.run(videos, out, workers) == 1
        files.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert files[0] == files[1] and len(files[0]) >= 4  # both clips, settings and report


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("filename", ["one", None])  # Python names no file if a write fails
def test_a_disk_error_is_not_reported_as_a_bad_file(converter, videos, tmp_path, monkeypatch, capsys, number, filename):
    write_video(videos / "one.mp4", 12)

    def full(*_):
        raise OSError(number, os.strerror(number), filename)

    monkeypatch.setattr(converter.module, converter.writer, full)
    assert converter.run(videos, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {filename or tmp_path / 'out'}") and f": {os.strerror(number)}; " in error
    assert read_report(tmp_path / "out") == {}


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_a_corrupted_settings_file_is_a_one_line_error(converter, videos, tmp_path, capsys, content):
    write_video(videos / "one.mp4", 12)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / converter.module.SETTINGS_FILE).write_text(content)
    assert f"{converter.module.SETTINGS_FILE}: cannot be read" in error_line(
        converter.run(videos, tmp_path / "out"), capsys
    )


def test_two_runs_on_one_folder(converter, videos, tmp_path, monkeypatch, capsys):
    write_video(videos / "one.mp4", 12)
    real, codes = converter.module.run_job, []

    def run_job(*arguments):
        codes.append(converter.run(videos, tmp_path / "out"))
        return real(*arguments)

    monkeypatch.setattr(converter.module, "run_job", run_job)
    assert converter.run(videos, tmp_path / "out") == 0 and codes == [2]
    assert f"out: in use by {this_process()}; wait until it ends" in capsys.readouterr().err
    assert [row["status"] for row in read_report(tmp_path / "out").values()] == [converter.made]


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_an_owner_that_cannot_be_read_is_another_run(converter, videos, tmp_path, monkeypatch, capsys, error):
    write_video(videos / "one.mp4", 12)
    real, codes = converter.module.run_job, []
    real_open = Path.open

    def open_path(path, mode="r", *arguments, **options):
        if path.suffix == ".lock" and mode == "r":
            raise error(path)
        return real_open(path, mode, *arguments, **options)

    def run_job(*arguments):
        codes.append(converter.run(videos, tmp_path / "out"))
        return real(*arguments)

    monkeypatch.setattr(converter.module, "run_job", run_job)
    monkeypatch.setattr(Path, "open", open_path)
    assert converter.run(videos, tmp_path / "out") == 0 and codes == [2]
    assert "out: in use by another run; wait until it ends" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_settings_on_a_full_disk_are_named_and_nothing_is_left(converter, videos, tmp_path, monkeypatch, capsys):
    write_video(videos / "one.mp4", 12)
    settings, real_open = tmp_path / "out" / converter.module.SETTINGS_FILE, Path.open

    def open_path(path, mode="r", *arguments, **options):
        is_settings = path.name.startswith(f".{settings.name}")
        return real_open(Path("/dev/full") if is_settings else path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_path)
    assert converter.run(videos, tmp_path / "out") == 1
    assert capsys.readouterr().err.startswith(f"error: {settings}: No space left on device; free disk space")
    assert not list((tmp_path / "out").iterdir())
