"""The two scripts of the demo data set, through their command lines."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
import torch

from utils.cli import run_command

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--train_per_class", "1", "--val_per_class", "1", "--heldout_per_class", "1")


def run_script(name, *words):
    """Run the script in this process; returns the exit code."""
    script = runpy.run_path(str(ROOT / "demo" / f"{name}.py"))
    return run_command(script["main"], script["parse_arguments"]([str(word) for word in words]))


def make(out, *options):
    """Run the script in this process with one worker; returns the exit code."""
    return run_script("make_shapes_world", out, *SMALL, "--workers", "1", *options)


def contents(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Rendered by two workers, through the command line."""
    out = tmp_path_factory.mktemp("shapes") / "world"
    subprocess.run(
        [sys.executable, "-m", "demo.make_shapes_world", out, *SMALL, "--workers", "2"],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    return out


def rows(world, name):
    return [line.split() for line in (world / "lists" / name).read_text().splitlines()]


def test_lists_match_the_files(world):
    for split, num_classes in (("train", 32), ("val", 32), ("heldout", 8)):
        frames, videos = rows(world, f"{split}_frames.txt"), rows(world, f"{split}_videos.txt")
        assert [int(row[-1]) for row in frames] == [int(row[-1]) for row in videos] == list(range(num_classes))
        for (folder, num_frames, _), (video, _) in zip(frames, videos):
            files = sorted(p.name for p in (world / "frames" / folder).iterdir())
            assert files == [f"img_{i:05d}.jpg" for i in range(1, int(num_frames) + 1)]
            assert (world / "videos" / video).is_file()


def test_videos_are_h264_and_as_long_as_their_frame_folders(world):
    for (_, num_frames, _), (video, _) in zip(rows(world, "heldout_frames.txt"), rows(world, "heldout_videos.txt")):
        with av.open(str(world / "videos" / video)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert len(frames) == int(num_frames)
        assert frames[0].shape == (64, 80, 3)


def test_labels_name_the_class_folders(world):
    for split, labels in (("train", "seen"), ("heldout", "heldout")):
        header, *lines = (world / "lists" / f"{labels}_labels.csv").read_text().splitlines()
        assert header == "id,name"
        for line, (path, _, label) in zip(lines, rows(world, f"{split}_frames.txt"), strict=True):
            number, name = line.split(",")
            assert number == label
            assert path.split("/")[0] == name.removeprefix("a ").replace(" ", "_")


def test_finished_world_is_left_alone(world, capsys):
    before = {p: p.stat().st_mtime_ns for p in world.rglob("*")}
    assert make(world) == 0
    assert "already complete" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in world.rglob("*")} == before


def test_interrupted_run_is_completed_and_worker_count_does_not_matter(world, tmp_path):
    """A copy of the data set as after an interruption: missing clips, incomplete files, and no settings.json."""
    out = tmp_path / "world"
    complete = contents(world)
    for name, data in complete.items():
        if "circle" in name or name.startswith("lists") or name == "settings.json":
            continue
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    (out / "settings.partial.json").write_bytes(complete["settings.json"])
    half = out / "frames" / "circle_growing" / "train_000.partial"
    half.mkdir(parents=True)
    (half / "img_00001.jpg").write_bytes(b"half a file")
    kept = out / "videos" / "star_growing" / "train_000.mp4"
    time_before = kept.stat().st_mtime_ns
    assert make(out) == 0
    rendered = contents(out)
    assert rendered.keys() == complete.keys()
    assert [name for name, data in complete.items() if rendered[name] != data] == []
    assert kept.stat().st_mtime_ns == time_before


def test_other_seed_replaces_the_world(world, tmp_path, capsys):
    out = tmp_path / "world"
    shutil.copytree(world, out)
    stray = out / "videos" / "star_growing" / "train_099.mp4"
    stray.write_bytes(b"of an older world")
    assert make(out, "--seed", "1") == 0
    assert "rendering it again" in capsys.readouterr().out
    assert not stray.exists()
    name = "videos/star_growing/train_000.mp4"
    assert (out / name).read_bytes() != (world / name).read_bytes()


def test_a_folder_with_other_files_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert make(tmp_path) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_counts_below_one_are_refused(tmp_path, capsys):
    assert make(tmp_path / "world", "--val_per_class", "0") == 2
    assert "--val_per_class" in capsys.readouterr().err


def test_training_the_tiny_clip_is_reproducible_and_gives_the_published_layout(tmp_path):
    states = []
    for name in ("a.pt", "b.pt"):
        options = ["--stills", "500", "--steps", "2", "--batch_size", "16", "--workers", "1"]
        assert run_script("train_shapes_clip", tmp_path / name, *options) == 0
        states.append(torch.load(tmp_path / name, weights_only=True))
    first, second = states
    committed = torch.load(ROOT / "clip" / "shapes_clip.pt", weights_only=True)
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in committed.items()}
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert (tmp_path / "a.pt").stat().st_size <= 10_000_000
