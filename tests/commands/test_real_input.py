"""Real videos from end to end: extracting frames, making lists, training, and testing from frames and files."""

import json
import shutil
import sys

import pytest

from tests.commands.world import call, command, losses
from tests.datasets.helpers import VIDEOS_DIR, needs_real_videos
from tests.faults_of import error_line

CLIPS = {
    "arm wrestling": ["arm_wrestling.mp4", "two_streams_audio.mp4"],
    "cleaning pool": ["cleaning_pool.mp4", "h265_video.mp4"],
    "flipping pancake": ["flipping_a_pancake.mkv", "av1_video.mkv"],
    "shooting basketball": ["shooting_basketball.mp4", "mpeg4_part2.avi"],
}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Class folders of the real clips, their frames by the project's script, and lists of both kinds."""
    root = tmp_path_factory.mktemp("real")
    for name, files in CLIPS.items():
        folder = root / "videos" / name.replace(" ", "_")
        folder.mkdir(parents=True)
        for file in files:
            shutil.copy(VIDEOS_DIR / file, folder / file)
    result = command(
        sys.executable, "-m", "tools.extract_frames", root / "videos", root / "frames", "--short_side", "48"
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for kind in ("frames", "video"):
        source = root / ("frames" if kind == "frames" else "videos")
        result = command(
            sys.executable, "-m", "tools.make_lists", "folders", "--root", source, "--out", root / f"lists_{kind}",
            "--kind", kind, "--val_share", "0.5",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    return root


def overrides(root, kind: str) -> list[str]:
    source, lists = root / ("frames" if kind == "frames" else "videos"), root / f"lists_{kind}"
    return [
        f"data.modality={'RGB' if kind == 'frames' else 'video'}",
        f"data.train_root={source}", f"data.val_root={source}",
        f"data.train_list={lists / 'train.txt'}", f"data.val_list={lists / 'val.txt'}",
        f"data.label_list={lists / 'labels.csv'}", "data.num_classes=4",
    ]  # fmt: skip


@needs_real_videos
@pytest.mark.parametrize("kind", ["frames", "video"])
def test_train_two_steps_and_test_from_frames_and_from_files(world, real, tmp_path, kind):
    arguments = ["--config", world.config, *overrides(real, kind), "data.batch_size=2"]
    assert call("train", *arguments, f"logging.run_dir={tmp_path}") == 0
    assert len(losses(tmp_path)) == 2
    for tested in ("frames", "video"):
        arguments = ["--config", world.config, "--weights", tmp_path / "last_model.pt", *overrides(real, tested)]
        assert call("test", *arguments, "--out", tmp_path / tested, "--test_clips", 2, "--test_crops", 3) == 0
        assert json.loads((tmp_path / tested / "summary.json").read_text())["num_videos"] == 4


@needs_real_videos
def test_the_corrupted_video_is_an_error_that_names_it(world, real, tmp_path, capsys):
    shutil.copy(VIDEOS_DIR / "corrupted.mp4", real / "videos" / "corrupted.mp4")
    (tmp_path / "list.txt").write_text("corrupted.mp4 0\n" * 2)
    arguments = [*overrides(real, "video"), f"data.train_list={tmp_path / 'list.txt'}", "--check"]
    error = error_line(call("train", "--config", world.config, *arguments), capsys)
    assert "corrupted.mp4" in error and "list.txt:1" in error
