"""Packed clips in tar shards from a folder, HTTP and S3: the same epochs as loose files, cache and errors."""

import csv
import json
import shutil
import tarfile
from pathlib import Path
from typing import NamedTuple

import fsspec
import numpy as np
import pytest
import torch

from benchmarks.range_server import http_server
from datasets import remote_files
from datasets.build import build_eval_loader, build_train_loader, read_entries
from datasets.check import check_present
from datasets.clip_cache import ClipCache
from datasets.clip_shards import ClipShards, clip_root
from datasets.entries import Entries, ListEntry
from modules.pixels import with_preprocessing
from tests.commands.world import call, command, losses
from tests.datasets.s3_server import s3_server
from tests.tools.loading import load_tool, run_tool
from utils.distributed import Process
from utils.errors import UserError
from utils.schema import Config

pack_videos = load_tool("pack_videos")
NUM_SHARDS = 4
ALONE = Process(0, 1, 0, torch.device("cpu"))


class Packed(NamedTuple):
    """The world's videos packed: a file for each, and in tar files; lists of either."""

    loose: Path
    shards: Path
    lists: Path


@pytest.fixture(scope="module")
def packed(world, tmp_path_factory) -> Packed:
    root = tmp_path_factory.mktemp("packed")
    packed = Packed(root / "loose", root / "shards", root)
    for part in ("train", "val"):
        text = (world.root / f"{part}_videos.txt").read_text()
        (root / f"{part}.txt").write_text(text.replace(".mp4", ".mkv"))
    lists = ("--labels", str(root / "train.txt"), str(root / "val.txt"))
    for out, options in ((packed.loose, ()), (packed.shards, ("--shards", str(NUM_SHARDS), *lists))):
        assert run_tool(pack_videos, str(world.root / "videos"), str(out), "--workers", "1", *options) == 0
    return packed


def config(packed: Packed, root: object, **data: object) -> Config:
    settings = {
        "modality": "video", "num_segments": 2, "batch_size": 4, "workers": 0, "num_classes": 3, "input_size": 32,
        "train_root": str(root), "train_list": str(packed.lists / "train.txt"),
        "val_root": str(root), "val_list": str(packed.lists / "val.txt"), **data,
    }  # fmt: skip
    return with_preprocessing(Config.model_validate({"seed": 3, "data": settings}))


def epoch(cfg: Config, world_size: int = 1, start_sample: int = 0) -> list[dict]:
    """All batches of an epoch of all processes."""
    batches = []
    for rank in range(world_size):
        loader = build_train_loader(cfg, world_size, rank)
        loader.start_epoch(1, start_sample)
        batches += list(loader)
        loader.close()
    return batches


def assert_equal(ours: list, theirs: list) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert a.keys() == b.keys()
        torch.testing.assert_close(a, b, rtol=0, atol=0)


# ---- packing


def test_the_tar_files_have_webdataset_s_layout_and_the_loose_bytes(packed):
    with (packed.shards / "shards.csv").open() as file:
        index = {row["path"]: row for row in csv.DictReader(file)}
    labels = dict(line.split() for name in ("train", "val") for line in (packed.lists / f"{name}.txt").open())
    assert index.keys() == labels.keys() and len({row["shard"] for row in index.values()}) == NUM_SHARDS
    for path, row in index.items():
        data = (packed.loose / path).read_bytes()
        with tarfile.open(packed.shards / row["shard"]) as tar:
            names = tar.getnames()
            assert tar.extractfile(path).read() == data
            facts = json.load(tar.extractfile(path.replace(".mkv", ".json")))
        assert names[names.index(path) + 1] == path.replace(".mkv", ".json")
        assert facts == {"path": path, "num_frames": int(row["num_frames"]), "label": int(labels[path])}
        assert row["label"] == labels[path]
        begin = int(row["offset"])
        assert (packed.shards / row["shard"]).read_bytes()[begin : begin + int(row["size"])] == data


def test_tar_files_of_several_machines_equal_those_of_one_and_are_resumed(world, packed, tmp_path, capsys):
    lists = ("--labels", str(packed.lists / "train.txt"), str(packed.lists / "val.txt"), "--shards", str(NUM_SHARDS))

    def run(*options: str) -> int:
        return run_tool(pack_videos, world.root / "videos", tmp_path / "o", "--workers", "1", *lists, *options)

    assert run("--shard", "1/2") == run("--shard", "2/2") == 0
    cut = tmp_path / "o" / "000001.tar"
    cut.write_bytes(cut.read_bytes()[:2000])
    assert run("--merge") == 2
    assert "shard 2/2 is not complete: 1 of 4 items have no result, such as 000001.tar" in capsys.readouterr().err
    kept = (tmp_path / "o" / "000003.tar").stat().st_mtime_ns
    assert run("--shard", "2/2") == run("--merge") == 0
    assert (tmp_path / "o" / "000003.tar").stat().st_mtime_ns == kept
    for path in packed.shards.iterdir():
        assert path.is_dir() or (tmp_path / "o" / path.name).read_bytes() == path.read_bytes()
    assert run_tool(pack_videos, str(world.root / "videos"), str(tmp_path / "o"), *lists[:3], "--shards", "5") == 2
    assert "shards 4 -> 5" in capsys.readouterr().err


def test_videos_added_later_are_not_added_to_existing_tar_files(world, tmp_path, capsys):
    folder, out = tmp_path / "v", tmp_path / "o"
    folder.mkdir()
    words = [str(folder), str(out), "--workers", "1", "--shards", "2"]
    for name in ("b.mp4", "c.mp4", "d.mp4"):
        shutil.copy(world.root / "videos" / "val_0_0.mp4", folder / name)
    assert run_tool(pack_videos, *words) == 0
    (out / "000001.tar").unlink()
    shutil.copy(folder / "b.mp4", folder / "a.mp4")
    assert run_tool(pack_videos, *words) == 2
    assert f"{out}: was created with other settings (videos 3, " in capsys.readouterr().err
    (folder / "a.mp4").unlink()
    assert run_tool(pack_videos, *words) == 0


def test_a_dot_in_a_name_does_not_begin_webdatasets_suffix(world, tmp_path, capsys):
    (tmp_path / "v").mkdir()
    shutil.copy(world.root / "videos" / "val_0_0.mp4", tmp_path / "v" / "a.b.mp4")
    words = [str(tmp_path / "v"), str(tmp_path / "o"), "--workers", "1", "--shards", "1"]
    (tmp_path / "v" / "bad.mp4").write_text("no video")
    assert run_tool(pack_videos, *words) == 1
    with tarfile.open(tmp_path / "o" / "000000.tar") as tar:
        assert tar.getnames() == ["a_b.mkv", "a_b.json"]
    assert (tmp_path / "o" / "shards.csv").read_text().splitlines()[1].startswith("a.b.mkv,000000.tar,512,")
    shutil.copy(world.root / "videos" / "val_0_0.mp4", tmp_path / "v" / "a_b.mp4")
    assert run_tool(pack_videos, *words[:1], str(tmp_path / "p"), *words[2:]) == 2
    assert "a_b.mkv: would have the same key as a.b.mkv in a tar file; rename one" in capsys.readouterr().err


# ---- epochs


@pytest.mark.parametrize(("world_size", "workers", "start"), [(1, 0, 0), (1, 2, 8), (2, 2, 0), (2, 0, 8)])
def test_epochs_equal_those_of_loose_files(packed, world_size, workers, start):
    loose = epoch(config(packed, packed.loose), world_size, start)
    assert_equal(epoch(config(packed, packed.shards, workers=workers), world_size, start), loose)


@pytest.mark.parametrize("cache_gb", [0, 1])
def test_epochs_over_http(packed, tmp_path, cache_gb):
    with http_server(packed.shards) as server:
        for workers, world_size, start in ((0, 1, 8), (2, 2, 0)):
            data = {"workers": workers, "cache_gb": cache_gb, "cache_dir": str(tmp_path)}
            ours = epoch(config(packed, server.url, **data), world_size, start)
            assert_equal(ours, epoch(config(packed, packed.loose), world_size, start))
        num_requests = len([path for path in server.requests if path.endswith(".tar")])
        assert num_requests == (15 if cache_gb else 7 + 15)  # of the second epoch, what the first one did not need
        views = list(build_eval_loader(config(packed, server.url)))
    assert_equal(views, list(build_eval_loader(config(packed, packed.loose))))


def test_epochs_from_s3(packed, monkeypatch):
    with s3_server(packed.shards) as (url, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        clip_root(config(packed, url).data, url).check_files()
        ours = epoch(config(packed, url, workers=2), start_sample=4)
        assert_equal(ours, epoch(config(packed, packed.loose), start_sample=4))
        with pytest.raises(UserError, match="s3://clips/none/shards.csv: no such file"):
            ClipShards("s3://clips/none", ClipCache(Path(), 0))


def test_other_protocols_of_fsspec(packed):
    files = fsspec.filesystem("memory")
    for path in packed.shards.iterdir():
        if path.is_file():
            files.pipe_file(f"/clips/{path.name}", path.read_bytes())
    for root in ("memory://clips", f"file://{packed.shards}"):
        assert_equal(epoch(config(packed, root)), epoch(config(packed, packed.loose)))


def test_two_processes_train_from_shards_as_one_does_from_files(world, packed, tmp_path, capsys):
    lists = [f"data.{part}_list={packed.lists / f'{part}.txt'}" for part in ("train", "val")]
    with http_server(packed.shards) as server:
        where = [*lists, f"data.train_root={server.url}", f"data.val_root={server.url}"]
        words = (*where, "data.batch_size=1", f"logging.run_dir={tmp_path / 'two'}")
        ran = command("sh", "scripts/run_train.sh", world.video_config, *words, NPROC="2")
        assert ran.returncode == 0, ran.stderr
        check = load_tool("check_data")
        words = ["--config", world.video_config, "--out", tmp_path / "c", "--workers", 1, *where]
        assert check.main(check.parse_arguments([str(word) for word in words])) == 0
    assert "train.txt: 15 entries, 0 bad" in capsys.readouterr().out
    where = [*lists, f"data.train_root={packed.loose}", f"data.val_root={packed.loose}"]
    assert call("train", "--config", world.video_config, *where, f"logging.run_dir={tmp_path / 'one'}") == 0
    expected = losses(tmp_path / "one")
    assert len(expected) == 8 and losses(tmp_path / "two") == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_an_interrupted_epoch_is_resumed_from_what_is_cached(packed, tmp_path):
    with http_server(packed.shards) as server:
        cfg = config(packed, server.url, workers=1, cache_gb=1, cache_dir=str(tmp_path))
        loader = build_train_loader(cfg)
        loader.start_epoch(1)
        batches = iter(loader)
        first = [next(batches), next(batches)]
        loader.close()
        del batches  # the worker is stopped wherever it is
        assert_equal([*first, *epoch(cfg, start_sample=8)], epoch(config(packed, packed.loose)))
        requests = [path for path in server.requests if path.endswith(".tar")]
    assert len(requests) <= 15 + 1  # what it was fetching, at most, is fetched again


# ---- faults


@pytest.fixture
def copy(packed, tmp_path) -> Path:
    return Path(shutil.copytree(packed.shards, tmp_path / "copy"))


def open_first(root: object, path: str = "train_0_0.mkv") -> None:
    with ClipShards(str(root), ClipCache(Path(), 0)).open(path, "list.txt:1") as clip:
        clip.read(np.array([0, clip.num_frames - 1]))


def tar_of(shards: Path, path: str = "train_0_0.mkv") -> Path:
    return shards / next(line.split(",")[1] for line in (shards / "shards.csv").open() if line.startswith(path))


@pytest.mark.parametrize("is_remote", [False, True])
def test_errors_in_the_files_are_one_line(copy, is_remote, monkeypatch):
    monkeypatch.setattr(remote_files, "FIRST_WAIT_S", 0)
    with http_server(copy) as server:
        root, tar = server.url if is_remote else copy, tar_of(copy)
        whole = tar.read_bytes()
        for size in (len(whole) // 4, 10):
            tar.write_bytes(whole[:size])
            with pytest.raises(
                UserError, match=f"{tar.name}: is truncated: it has {size} bytes, but its index .*list.txt:1"
            ):
                open_first(root, max_of(copy, tar.name))
        tar.write_bytes(bytes(len(whole)))
        with pytest.raises(
            UserError, match=f"{tar.name}: train_0_0.mkv .*list.txt:1.*: is not a packed clip; its index"
        ):
            open_first(root)
        tar.unlink()
        with pytest.raises(UserError, match=f"{tar.name}: .*no such file.*train_0_0.mkv|{tar.name}: cannot be opened"):
            open_first(root)
        with pytest.raises(UserError, match=r"other.mkv \(listed at list.txt:1\): not in .*shards.csv; pack it"):
            open_first(root, "other.mkv")
        index = (copy / "shards.csv").read_text()
        for damaged in (index[: len(index) // 2], index.replace("\n", "\r"), index.replace("tar,", "tar,9" + 20 * "0"),
                        index.replace("tar,", "tar,-")):  # fmt: skip
            (copy / "shards.csv").write_text(damaged, newline="")
            with pytest.raises(UserError, match=r"shards.csv:\d+: is corrupted .*; copy it again"):
                open_first(root)
        (copy / "shards.csv").unlink()
        with pytest.raises(UserError, match="shards.csv: (no such file|cannot be read)"):
            open_first(root)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_missing_and_truncated_tar_files_are_found_before_a_run(copy, packed, scheme):
    cfg = config(packed, f"{scheme}{copy}")
    entries, shards = read_entries(cfg, cfg.data.val_list), clip_root(cfg.data, cfg.data.val_root)
    assert check_present(entries, shards, "val.txt", ALONE) == 9
    with pytest.raises(
        UserError, match=r"other.mkv \(listed at val.txt:7\): not in .*shards.csv; check data.train_root"
    ):
        check_present(Entries([ListEntry("other.mkv", None, 0, 7)]), shards, "val.txt", ALONE)
    tar = copy / "000002.tar"
    length = tar.stat().st_size
    tar.write_bytes(tar.read_bytes()[: length // 2])
    with pytest.raises(
        UserError, match=f"000002.tar: is truncated: it has {length // 2} bytes, but its index .*; copy it again"
    ):
        check_present(entries, shards, "val.txt", ALONE)
    tar.unlink()
    with pytest.raises(UserError, match="000002.tar: is missing; copy it again"):
        check_present(entries, shards, "val.txt", ALONE)


def max_of(shards: Path, tar: str) -> str:
    """The clip that lies last in a tar file."""
    with (shards / "shards.csv").open() as file:
        return max((row for row in csv.DictReader(file) if row["shard"] == tar), key=lambda row: int(row["offset"]))[
            "path"
        ]


def test_network_errors_are_retried_and_then_reported_in_one_line(packed, monkeypatch):
    monkeypatch.setattr(remote_files, "FIRST_WAIT_S", 0)
    with http_server(packed.shards) as server:
        server.failures = remote_files.ATTEMPTS - 1
        open_first(server.url)
        server.failures = 10**6
        with pytest.raises(UserError, match="shards.csv: could not be read in 5 attempts .*503.*; check the network"):
            open_first(server.url)
        assert 10**6 - server.failures == remote_files.ATTEMPTS
        server.failures, server.has_ranges = 0, False
        with pytest.raises(UserError, match="its server ignores byte ranges"):
            open_first(server.url)
    with pytest.raises(UserError, match="could not be read in 5 attempts"):
        open_first("http://127.0.0.1:9")  # nobody listens


def test_unsupported_protocols_are_a_one_line_error(monkeypatch, packed):
    with pytest.raises(UserError, match="fsspec does not support the protocol odd://"):
        open_first("odd://clips")
    with pytest.raises(UserError, match="only packed clips are read from a URL; set data.modality: video"):
        clip_root(config(packed, "s3://clips", modality="RGB").data, "s3://clips")

    def lacking(*_: object) -> None:
        raise ImportError("Install gcsfs")

    monkeypatch.setattr(fsspec, "filesystem", lacking)
    with pytest.raises(
        UserError, match=r"sftp://clips/shards.csv: fsspec cannot use sftp:// \(Install gcsfs\); install"
    ):
        open_first("sftp://clips")
    with pytest.raises(UserError, match="gs://clips/shards.csv: needs gcsfs; run 'pip install gcsfs'"):
        open_first("gs://clips")
