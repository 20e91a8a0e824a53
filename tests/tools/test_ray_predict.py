"""tools.ray_predict on a cluster of two nodes on this machine: the results of predict.py and extract_features."""

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

from engine import ray_predict as ray_engine
from tests.commands.world import call
from tests.tools.loading import load_tool, run_tool
from tools import extract_features, ray_predict
from utils.cli import run_command


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes, each with one CPU."""
    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        nodes.add_node(**node)
        assert nodes.address is not None
        yield nodes.address
        ray.shutdown()
        nodes.shutdown()
    shutil.rmtree(Path(tempfile.gettempdir(), "ray"))


@pytest.fixture
def without_cluster(monkeypatch):
    """One actor in this process instead of a cluster, whose actors start too slowly for each test."""

    def run_here(args, batches, schema):
        actor = ray_engine.Predictor(args, str(Path.cwd()), schema)
        for number, videos in batches:
            done = actor({"number": number, "videos": [os.fsencode(video) for video in videos]})
            assert not done["mistake"]
            yield done

    monkeypatch.setattr(ray_engine, "run_on_cluster", run_here)


@pytest.fixture
def videos(world, tmp_path) -> Path:
    """A folder of four videos and a damaged one, which is the first by name."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("val_0_0.mp4", "val_1_0.mp4", "train_0_0.mp4", "train_1_0.mp4"):
        shutil.copy(world.root / "videos" / name, folder)
    (folder / "bad.mp4").write_text("no video")
    return folder


def run(*words: object) -> int:
    return run_command(ray_predict.main, ray_predict.parse_arguments([*map(str, words), "--workers", "1", "--quiet"]))


def rows_of(out: Path) -> list[dict]:
    return [row for part in sorted(out.glob("parts/*")) for row in pq.read_table(part).to_pylist()]


def read_csv(path: Path) -> list[list]:
    """Rows of words and numbers."""
    with path.open(newline="") as file:
        return [[float(cell) if cell[:1].isdigit() else cell for cell in row] for row in csv.reader(file)]


def assert_same_csv(found: Path, expected: Path) -> None:
    rows, others = read_csv(found), read_csv(expected)
    assert len(rows) == len(others) > 2
    for row, other in zip(rows, others):
        assert row == pytest.approx(other, abs=2e-5)  # numbers of threads and kernels differ


def test_two_workers_give_the_probabilities_of_predict(world, videos, cluster, tmp_path, capsys):
    words = ("--config", world.video_config, "data.batch_size=3", "--window", 0.4, "--stride", 0.2)
    assert call("predict", videos, *map(str, words), "--csv", tmp_path / "one.csv", "--quiet") == 2
    expected_error = capsys.readouterr().err.splitlines()[0]

    out = tmp_path / "out"
    assert run(videos, out, *words, "--batch", 2, "--csv", tmp_path / "many.csv", "--address", cluster) == 2
    printed = capsys.readouterr()
    assert expected_error in printed.err and f"{out}: 4 of 5 videos" in printed.out
    assert_same_csv(tmp_path / "many.csv", tmp_path / "one.csv")
    (failed,) = [row for row in rows_of(out) if row["error"]]
    assert failed["video"] == str(videos / "bad.mp4") and failed["class"] is None
    assert f"error: {failed['error']}" == expected_error


def test_the_same_command_writes_missing_parts(world, videos, without_cluster, tmp_path, capsys):
    command = (videos, tmp_path / "out", "--config", world.video_config, "--batch", 2, "--csv", tmp_path / "all.csv")
    assert run(*command) == 2
    whole = (tmp_path / "all.csv").read_text()
    parts = sorted(tmp_path.glob("out/parts/*"))
    assert [part.name for part in parts] == [f"000000{number}.parquet" for number in range(3)]
    times = [part.stat().st_mtime_ns for part in parts]
    parts[1].unlink()
    (tmp_path / "all.csv").unlink()
    shutil.copy(world.root / "videos" / "val_2_0.mp4", videos / "bad.mp4")
    assert run(*command) == 2  # the error of the part that exists
    assert [part.stat().st_mtime_ns == time for part, time in zip(parts, times)] == [True, False, True]
    assert (tmp_path / "all.csv").read_text() == whole
    assert run(*command, "--retry") == 0
    assert [part.stat().st_mtime_ns == time for part, time in zip(parts, times)] == [False, False, True]
    assert "bad.mp4" in (tmp_path / "all.csv").read_text()
    assert run(*command, "--threshold", 0.5) == 2
    assert "contains results of another threshold" in capsys.readouterr().err


def test_a_video_that_kills_its_process_eventually_fails_the_command(world, videos, without_cluster, tmp_path, capsys):
    command = (videos, tmp_path / "out", "--config", world.video_config, "--batch", 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_engine.Predictor, "rows", lambda actor, video: 1 / 0)  # instead of a crash
        args = ray_predict.parse_arguments([str(word) for word in command])
        with pytest.raises(ZeroDivisionError):
            ray_predict.main(args)
        actor = ray_engine.Predictor(args, str(Path.cwd()), ray_engine.schema_of(args, 3))
        batch = {"number": 0, "videos": [b"a.mp4"]}
        for _ in range(ray_engine.MAX_TRIES - 1):
            with pytest.raises(ZeroDivisionError):
                actor(batch)
        assert actor(batch)["mistake"].startswith("3 actors exited without an error in the batch of a.mp4")
    assert run(*command) == 2  # the damaged one
    assert not list(tmp_path.glob("out/parts/*.tries")) and len(list(tmp_path.glob("out/parts/*"))) == 2


@pytest.mark.parametrize(
    ("level", "where"), [("window", "cluster"), ("frame", "without_cluster"), ("video", "without_cluster")]
)
def test_features_are_those_of_extract_features(world, videos, request, tmp_path, level, where):
    address = request.getfixturevalue(where) or "none"
    words = ("--config", world.video_config, "--level", level, "--window", 0.4, "--stride", 0.2)
    arguments = [str(word) for word in (videos, tmp_path / "arrays", *words, "--quiet")]
    assert extract_features.main(extract_features.parse_arguments(arguments)) == 2
    names = ("val_1_0", "bad", "train_0_0")
    (tmp_path / "list.txt").write_text("".join(f"{videos}/{name}.mp4\n" for name in names))
    assert run(tmp_path / "list.txt", tmp_path / "out", *words, "--batch", 1, "--address", address) == 2
    rows = rows_of(tmp_path / "out")
    assert [Path(video).stem for video in dict.fromkeys(row["video"] for row in rows)] == list(names)
    for name in ("val_1_0", "train_0_0"):
        found = [row for row in rows if row["video"] == f"{videos}/{name}.mp4"]
        described = json.loads((tmp_path / "arrays" / f"{name}.json").read_text())
        assert [row["start"] for row in found] == pytest.approx(described["start"], abs=1e-6)
        embeddings = np.array([np.reshape(row["embedding"], row["shape"]) for row in found])
        np.testing.assert_allclose(embeddings, np.load(tmp_path / "arrays" / f"{name}.npy"), rtol=1e-4, atol=1e-4)


def test_clips_of_tar_shards_are_those_of_loose_files(world, videos, without_cluster, tmp_path, capsys):
    pack, loose, shards = load_tool("pack_videos"), tmp_path / "loose", tmp_path / "shards"
    (videos / "bad.mp4").unlink()
    assert run_tool(pack, str(videos), str(loose), "--workers", "1") == 0
    assert run_tool(pack, str(videos), str(shards), "--workers", "1", "--shards", "2") == 0
    assert call("predict", loose, "--config", world.video_config, "--csv", tmp_path / "one.csv", "--quiet") == 0
    assert run(shards, tmp_path / "out", "--config", world.video_config, "--csv", tmp_path / "many.csv") == 0
    (tmp_path / "many.csv").write_text((tmp_path / "many.csv").read_text().replace(str(shards), str(loose)))
    found, expected = read_csv(tmp_path / "many.csv"), read_csv(tmp_path / "one.csv")
    assert sorted(row[0] for row in found) == sorted(row[0] for row in expected)
    by_name = {row[0]: row for row in expected}
    for row in found:
        assert row == pytest.approx(by_name[row[0]], abs=2e-5)

    (shards / "000000.tar").write_bytes(b"")
    capsys.readouterr()
    assert run(shards, tmp_path / "other", "--config", world.video_config) == 2
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]  # Ray may write lines of its own
    assert errors[0].startswith(f"error: {shards}/000000.tar: is truncated")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gpus", "1"), "the cluster has 0 GPUs, but 1 actors need 1"),
        (("--actors", "3"), "the cluster has 2 CPUs, but 3 actors need 3"),
        (("--level", "window", "--csv", "a.csv"), "--csv: contains predictions"),
        (("--batch", "0"), "--batch 0: must be at least 1"),
        (("--classes", "a, a"), "classes: a is given twice"),
    ],
)
def test_mistakes_are_one_line_errors(world, cluster, tmp_path, capsys, words, message):
    video = world.root / "videos" / "val_0_0.mp4"
    assert run(video, tmp_path / "out", "--config", world.video_config, "--address", cluster, *words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert message in line and not list(tmp_path.glob("out/parts/*"))


def test_actors_share_gpus_and_put_the_model_on_them(monkeypatch, tmp_path):
    args = ray_predict.parse_arguments(["videos", "out", "--gpus", "0.5", "--workers", "2"])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16, "GPU": 2})
    assert ray_engine.count_actors(args) == 4
    monkeypatch.chdir(tmp_path)  # which an actor changes
    monkeypatch.setattr(ray_engine, "load_model", lambda *arguments: arguments[-1])
    assert ray_engine.Predictor(args, str(tmp_path), ray_engine.schema_of(args, 3)).model == "cuda"


def test_ray_reserves_the_cpus_and_gpus_of_an_actor(monkeypatch, tmp_path):
    options = {}

    class FakeRows:
        def map(self, actor, **given):
            options.update(given)
            return self

        def iter_rows(self):
            return iter([])

    args = ray_predict.parse_arguments(["videos", "out", "--gpus", "0.5", "--workers", "2"])
    monkeypatch.setattr(ray, "init", lambda *_, **__: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16, "GPU": 2})
    monkeypatch.setattr(ray.data, "from_items", lambda *_, **__: FakeRows())
    batches = [(number, ["a.mp4"]) for number in range(9)]
    assert list(ray_engine.run_on_cluster(args, batches, ray_engine.schema_of(args, 3))) == []
    assert options["num_gpus"] == 0.5 and options["num_cpus"] == 2 and options["compute"].max_size == 4


def test_without_ray_the_error_names_the_package(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(ray_predict, "find_spec", lambda name: None)
    assert run(tmp_path, tmp_path / "out") == 2
    assert capsys.readouterr().err == "error: Ray Data is not installed; run \"pip install 'ray[data]'\"\n"


def test_an_empty_list_is_a_one_line_error(tmp_path, capsys):
    (tmp_path / "list.txt").write_text("\n")
    assert run(tmp_path / "list.txt", tmp_path / "out") == 2
    assert "list.txt: contains no paths of videos" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]
