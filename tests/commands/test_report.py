"""report.py on one run, on two, and with missing videos or weights."""

import shutil
import sys
from pathlib import Path

import pytest

from modules.embed import load_table, save_table
from tests.commands.world import call, command

# HTML of a film strip, and of the reason why there is none.
STRIP, NOT_SHOWN = "data:image/jpeg;base64,", "Not shown: "


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """A run with two tests and a zero-shot test."""
    folder = tmp_path_factory.mktemp("runs") / "transf"
    weights = folder / "last_model.pt"
    assert call("train", "--config", world.config, f"logging.run_dir={folder}") == 0
    for name, arguments in (("test_1x1", ()), ("test_2x3", ("--test_clips", 2, "--test_crops", 3))):
        assert call("test", "--config", world.config, "--weights", weights, "--out", folder / name, *arguments) == 0
    assert call("test_zeroshot", "--config", world.config, "--weights", weights, "--out", folder / "zeroshot") == 0
    return folder


@pytest.fixture
def other(run, tmp_path):
    """A copy of the run."""
    return shutil.copytree(run, tmp_path / "other")


def test_a_run_becomes_one_page_with_film_strips(run, tmp_path, capsys):
    assert call("report", run, "--out", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count(STRIP) >= 6 and NOT_SHOWN not in page  # nine videos: each wrong or the best of its class
    assert "Details of test test_2x3" in page and all(name in page for name in ("test_1x1", "zeroshot"))
    out = capsys.readouterr()
    assert str(tmp_path / "page.html") in out.out and out.err == ""


def test_frames_come_from_video_files_too(world, run, other, tmp_path):
    assert call("test", "--config", world.video_config, "--weights", run / "last_model.pt", "--out", tmp_path) == 0
    assert call("report", tmp_path) == 0
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count(STRIP) >= 3


def test_no_frames_needs_no_weights(other, capsys):
    (other / "last_model.pt").unlink()
    assert call("report", other, "--no_frames", "--test", "test_1x1") == 0
    page = (other / "report.html").read_text(encoding="utf-8")
    assert STRIP not in page and f"{NOT_SHOWN}left out by --no_frames." in page and "Details of test test_1x1" in page
    assert capsys.readouterr().err == ""


def test_changed_weights_are_reported_and_the_rest_is_written(other, run, tmp_path, capsys):
    moved = tmp_path / "moved.pt"
    summary = other / "test_2x3" / "summary.json"
    summary.write_text(summary.read_text().replace(str(run / "last_model.pt"), str(moved)))
    (other / "last_model.pt").unlink()
    moved.write_bytes(b"something else")
    assert call("report", other) == 0
    message = f"{moved}: has changed since the test; run the test again"
    assert capsys.readouterr().err == f"warning: no film strips: {message}\n"
    assert f"{NOT_SHOWN}{message}" in (other / "report.html").read_text(encoding="utf-8")


def test_missing_videos_are_reported_and_the_rest_is_written(world, other, tmp_path, capsys):
    """First a shorter list, then missing frames of a video."""
    summary = other / "test_2x3" / "summary.json"
    shrunk = tmp_path / "val.txt"
    lines = (world.root / "val_frames.txt").read_text().splitlines(keepends=True)
    shrunk.write_text(lines[0])
    summary.write_text(summary.read_text().replace(str(world.root / "val_frames.txt"), str(shrunk)))
    assert call("report", other) == 0
    assert "is no longer listed there" in capsys.readouterr().err
    shrunk.write_text("".join(lines))
    root = shutil.copytree(world.root / "frames", tmp_path / "frames")
    summary.write_text(summary.read_text().replace(str(world.root / "frames"), str(root)))
    for folder in root.glob("val_0_*"):
        shutil.rmtree(folder)
    assert call("report", other) == 0
    assert capsys.readouterr().err == ""
    page = (other / "report.html").read_text(encoding="utf-8")
    assert STRIP in page and "no such folder" in page


def test_two_runs_are_compared(run, other, capsys):
    assert call("report", run, other, "--out", other / "pair.html") == 0
    page = (other / "pair.html").read_text(encoding="utf-8")
    assert "Comparison: transf and other" in page and "test test_2x3" in page
    assert "Both get the same videos right." in page
    assert call("report", other, run) == 0 and (other / "compare_transf.html").exists()


def test_the_comparison_shows_a_video_that_only_one_run_classifies_correctly(run, other):
    """B's embeddings equal the texts of the true classes, so all its predictions are correct."""
    path = other / "test_2x3" / "embeddings.npz"
    table, text, names = load_table(path)
    save_table(path, table._replace(embeddings=text[table.labels]), text, names)
    assert call("report", run, other, "--test", "test_2x3", "--out", other / "pair.html") == 0
    page = (other / "pair.html").read_text(encoding="utf-8")
    assert page.count(STRIP) == 2 and "Only B other is right" in page  # the frames, and the same highlighted
    assert call("report", run, other, "--test", "test_2x3", "--out", other / "pair.html", "--no_frames") == 0
    assert STRIP not in (other / "pair.html").read_text(encoding="utf-8")


def test_mistakes_are_one_line_errors_and_write_nothing(run, other, tmp_path, capsys):
    def line(*arguments):
        before = set(tmp_path.rglob("*"))
        assert call("report", *arguments) == 2
        assert set(tmp_path.rglob("*")) == before
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        return error

    assert "no such folder" in line(tmp_path / "nowhere")
    assert "is a folder; give a file name" in line(run, "--out", tmp_path)
    assert "x.html: cannot be written (" in line(run, "--no_frames", "--out", other / "config.yaml" / "x.html")
    assert "--test test_9: no such test" in line(run, "--test", "test_9")
    assert "not on the same videos" in line(run / "test_1x1", _with_other_labels(other))
    for name in ("test_1x1", "test_2x3", "zeroshot"):
        shutil.rmtree(other / name)
    assert f"run: python test.py --config {other}/config.yaml --weights {other}/best_model.pt" in line(other)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_not_a_mistake(run, capsys):
    assert call("report", run, "--no_frames", "--out", "/dev/full") == 1
    assert capsys.readouterr().err.startswith("error: /dev/full: cannot be written (No space left on device)")


def _with_other_labels(run):
    table, text, names = load_table(run / "test_1x1" / "embeddings.npz")
    save_table(run / "test_1x1" / "embeddings.npz", table._replace(labels=table.labels[::-1]), text, names)
    return run / "test_1x1"


def test_the_command_line_works_and_help_answers_at_once(run, tmp_path):
    result = command(sys.executable, "report.py", "--help")
    assert result.returncode == 0 and "RUN_B" in result.stdout
    result = command(sys.executable, "report.py", run, "--no_frames", "--out", tmp_path / "page.html")
    assert result.returncode == 0 and (tmp_path / "page.html").stat().st_size > 30_000, result.stderr
