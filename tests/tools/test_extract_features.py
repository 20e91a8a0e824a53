"""tools.extract_features: rows equal predict's embeddings; levels, formats, resuming, shards, mistakes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from inference.model import load_model
from tests.datasets.helpers import write_frames
from tools import extract_features
from utils.errors import UserError


@pytest.fixture(scope="module")
def videos(world, tmp_path_factory):
    """A folder with three of the world's videos."""
    folder = tmp_path_factory.mktemp("videos")
    for name in ("val_0_0.mp4", "val_1_0.mp4", "train_0_0.mp4"):
        shutil.copy(world.root / "videos" / name, folder)
    return folder


def run(*words) -> int:
    return extract_features.main(extract_features.parse_arguments([*map(str, words), "--quiet"]))


def test_rows_equal_the_embeddings_behind_predictions(videos, weights, tmp_path):
    assert run(videos, tmp_path / "w", "--weights", weights, "--window", 0.4, "--stride", 0.2, "--workers", 3) == 0
    model = load_model(weights)
    name = "val_0_0"
    features = np.load(tmp_path / "w" / f"{name}.npy")
    windows = list(model.reader.windows(videos / f"{name}.mp4", 0.4, 0.2))
    expected = np.concatenate([model.embed(window.clip[None]) for window in windows])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)  # other batch sizes, other kernels
    described = json.loads((tmp_path / "w" / f"{name}.json").read_text())
    assert described["shape"] == list(features.shape) and (described["stride"], described["fps"]) == (0.2, 5.0)
    np.testing.assert_allclose(described["start"], [window.start for window in windows], atol=1e-6)

    assert (
        run(videos, tmp_path / "f", "--weights", weights, "--level", "frame", "--window", 0.4, "data.batch_size=3") == 0
    )
    frames = np.load(tmp_path / "f" / f"{name}.npy")
    assert frames.shape[1:] == (model.cfg.data.num_frames, features.shape[1])
    assert run(videos / f"{name}.mp4", tmp_path / "v", "--weights", weights, "--level", "video") == 0
    whole = np.load(tmp_path / "v" / f"{name}.npy")
    np.testing.assert_allclose(whole, model.embed(model.clips(videos / f"{name}.mp4")), rtol=1e-4, atol=1e-4)


def test_hdf5_holds_the_same(world, weights, tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed; it is for --format h5 only")
    video = world.root / "videos" / "val_0_0.mp4"
    for form in ("npy", "h5"):
        assert run(video, tmp_path / form, "--weights", weights, "--format", form) == 0
    with h5py.File(tmp_path / "h5" / "val_0_0.h5") as file:
        np.testing.assert_allclose(file["features"][:], np.load(tmp_path / "npy" / "val_0_0.npy"), rtol=1e-4, atol=1e-4)


def test_an_interrupted_run_continues_and_shards_share_a_folder(videos, weights, tmp_path, capsys):
    for part in ("1/2", "2/2"):
        assert run(videos, tmp_path, "--weights", weights, "--shard", part) == 0
    arrays = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    assert len(arrays) == len(list(videos.glob("*.mp4")))
    removed = sorted(arrays)[0]
    removed.with_suffix(".json").unlink()  # as if the run had been killed between writing array and description
    capsys.readouterr()
    assert run(videos, tmp_path, "--weights", weights) == 0
    assert f"{len(arrays) - 1} of them from an earlier run" in capsys.readouterr().out
    changed = [path for path, time in arrays.items() if path.stat().st_mtime_ns != time]
    assert changed == [removed] and removed.with_suffix(".json").is_file()


def test_a_bad_video_is_one_line_and_the_others_are_processed(world, weights, tmp_path, capsys):
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "bad.mp4").write_text("no video")
    (folder / "good.mp4").write_bytes((world.root / "videos" / "val_0_0.mp4").read_bytes())
    assert run(folder, tmp_path / "out", "--weights", weights) == 2
    printed = capsys.readouterr()
    assert printed.err.count("error: ") == 1 and "bad.mp4" in printed.err and "1 of 2 videos" in printed.out
    assert f'next: numpy.load("{tmp_path}/out/good.npy")' in printed.out
    assert (tmp_path / "out" / "good.npy").is_file() and not (tmp_path / "out" / "bad.npy").exists()


def test_mistakes(world, weights, tmp_path):
    video = world.root / "videos" / "val_0_0.mp4"
    assert run(video, tmp_path / "a", "--weights", weights) == 0
    for words, part in (
        ((video, tmp_path / "a", "--weights", weights, "--window", 2), "contains results of another stride, window"),
        ((video, tmp_path / "b", "--weights", weights, "--shard", "0/2"), "--shard 0/2"),
        ((video, tmp_path / "b", "--weights", weights, "--stride", 0), "--stride 0: must be finite and at least 0.001"),
        (
            (video, tmp_path / "b", "--weights", weights, "--window", -1),
            "--window -1: must be at least 0.001 seconds, or 0",
        ),
        ((video, tmp_path / "b"), "give --weights, or --config"),
        (("rtsp://camera/1", tmp_path / "b", "--weights", weights), "cameras and URLs"),
    ):
        with pytest.raises(UserError) as caught:
            run(*words)
        assert part in str(caught.value)


def test_the_current_folder_as_a_frame_folder_is_named_after_itself(tmp_path, monkeypatch):
    write_frames(tmp_path / "walk", 2)
    monkeypatch.chdir(tmp_path / "walk")
    assert extract_features.name_targets(".", Path("out")) == {".": Path("out/walk")}


def test_overrides_come_last():
    args = extract_features.parse_arguments(["a", "b", "data.batch_size=3", "--weights", "w.pt"])
    assert (args.videos, args.out, args.overrides) == ("a", "b", ["data.batch_size=3"])
