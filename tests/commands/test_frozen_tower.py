"""data.cached_draws: training a head from frame embeddings on disk equals training it through the frozen tower."""

import errno
import io
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import frame_cache
from datasets.augmentations import AUGMENTATIONS
from tests.commands.world import NUM_TRAIN, call, command, losses, records
from tests.datasets.test_augmentations import Reverse
from tests.faults_of import error_line
from utils.checkpoint import load_checkpoint
from utils.schema import DataConfig
from utils.stop import EXIT_REQUEUE

FROZEN = ("network.fix_video=true", "solver.epochs=2", "data.batch_size=4")


def train(world, run_dir, cache_dir, *overrides):
    where = (f"logging.run_dir={run_dir}", f"logging.cache_dir={cache_dir}")
    return call("train", "--config", world.config, *where, *FROZEN, *overrides)


def parts(cache_dir):
    return {path: path.stat().st_mtime_ns for path in sorted(cache_dir.glob("frames-*/draw*"))}


def scores(run_dir):
    return [r["top1"] for r in records(run_dir) if r["kind"] == "val"]


@pytest.fixture(scope="module")
def tower_run(world, tmp_path_factory):
    path = tmp_path_factory.mktemp("tower")
    assert train(world, path / "run", path / "cache") == 0
    assert not parts(path / "cache")
    return path / "run"


def test_as_many_draws_as_epochs_train_like_the_tower(world, tower_run, tmp_path, monkeypatch):
    monkeypatch.setattr(frame_cache, "PART_CLIPS", 4)
    assert train(world, tmp_path / "run", tmp_path / "cache", "data.cached_draws=2", "data.workers=2") == 0
    torch.testing.assert_close(losses(tmp_path / "run"), losses(tower_run), rtol=1e-5, atol=1e-6)
    assert scores(tmp_path / "run") == scores(tower_run)
    ours, theirs = (load_checkpoint(p / "last_model.pt")["model_state_dict"] for p in (tmp_path / "run", tower_run))
    assert ours.keys() == theirs.keys()  # test.py needs no cache
    name = "fusion_model.frame_position_embeddings.weight"
    torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)
    # 15 training clips in parts of 4, two draws; 9 validation clips, one draw; embeddings and labels.
    assert len(parts(tmp_path / "cache")) == 2 * (2 * 4 + 3)


def test_the_second_run_only_reads_the_cache_and_other_pixels_have_their_own(world, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    assert train(world, tmp_path / "one", cache, "data.cached_draws=1") == 0
    before = parts(cache)
    assert train(world, tmp_path / "two", cache, "data.cached_draws=1", "data.batch_size=2", "solver.lr=1e-4") == 0
    assert parts(cache) == before
    in_training = ("data.flip=0.1", "data.pixels_on=device", "data.decode_on=device")
    assert train(world, tmp_path / "three", cache, "data.cached_draws=1", *in_training) == 0
    assert train(world, tmp_path / "four", cache, "data.cached_draws=1", "network.tm=tokenshift") == 0
    # Validation clips are neither flipped nor decoded on the device, so theirs are in the cache.
    assert len({path.parent for path in parts(cache)}) == 2 + 1 + 2
    monkeypatch.setitem(AUGMENTATIONS, "reverse", f"{Reverse.__module__}.Reverse")
    assert train(world, tmp_path / "five", cache, "data.cached_draws=1", "components.reverse.prob=0.5") == 0
    assert len({path.parent for path in parts(cache)}) == 2 + 1 + 2 + 1


def test_ignored_config_keys_exist_in_the_schema():
    left_out = frame_cache._NO_EFFECT.union(*frame_cache._NO_EFFECT_ON.values())
    assert left_out <= set(DataConfig.model_fields)


def test_one_draw_is_used_in_every_epoch(world, tower_run, tmp_path):
    assert train(world, tmp_path / "run", tmp_path / "cache", "data.cached_draws=1", "solver.lr=1e-12") == 0
    steps = [r for r in records(tmp_path / "run") if r["kind"] == "train"]
    mean = [sum(r["loss"] for r in steps if r["epoch"] == e) for e in (0, 1)]
    assert (
        len(steps) == 2 * -(-3 * NUM_TRAIN // 4) and mean[0] != mean[1]
    )  # the batches differ, and the last one is smaller
    assert losses(tmp_path / "run")[:4] != losses(tower_run)[4:]


def test_a_request_to_stop_while_filling(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(frame_cache, "PART_CLIPS", 4)
    write = frame_cache.FrameCache._write
    stop_after = 2

    def write_then_signal(self, draw, part, contents):
        nonlocal stop_after
        write(self, draw, part, contents)
        stop_after -= 1
        if stop_after == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(frame_cache.FrameCache, "_write", write_then_signal)
    arguments = (tmp_path / "run", tmp_path / "cache", "data.cached_draws=1", "resume=auto")
    assert train(world, *arguments) == EXIT_REQUEUE
    assert "stopped by a signal" in capsys.readouterr().err
    first = parts(tmp_path / "cache")
    assert len(first) == 2 * 2
    assert train(world, *arguments) == 0
    assert first.items() <= parts(tmp_path / "cache").items()


def test_two_processes_fill_one_cache(world, tmp_path):
    run = command(
        "sh", "scripts/run_train.sh", world.config, *FROZEN, "data.batch_size=2", "data.cached_draws=1",
        f"logging.run_dir={tmp_path / 'two'}", f"logging.cache_dir={tmp_path / 'cache'}", NPROC="2",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    before = parts(tmp_path / "cache")
    assert train(world, tmp_path / "one", tmp_path / "cache", "data.cached_draws=1") == 0
    assert parts(tmp_path / "cache") == before
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4, atol=1e-5)


def test_the_processes_meet_after_every_part(world, tmp_path, monkeypatch):
    """A process waits for parts of others at most solver.process_timeout_minutes, so parts must be small."""
    assert frame_cache.PART_CLIPS <= 64
    monkeypatch.setattr(frame_cache, "PART_CLIPS", 4)
    num_written, any_process = [], frame_cache.any_process

    def meet(flag, process):
        num_written.append(len(parts(tmp_path / "cache")) // 2)
        return any_process(flag, process)

    monkeypatch.setattr(frame_cache, "any_process", meet)
    assert train(world, tmp_path / "run", tmp_path / "cache", "data.cached_draws=1") == 0
    assert set(num_written) == set(range(4 + 3 + 1))  # 15 clips of training, 9 of validation


def test_draws_that_no_epoch_reads_are_not_computed(world, tmp_path):
    assert train(world, tmp_path / "run", tmp_path / "cache", "data.cached_draws=5", "solver.epochs=1") == 0
    assert {path.name for path in parts(tmp_path / "cache")} == {"draw000-part00000.npy", "draw000-part00000.npz"}


def test_a_part_that_cannot_be_memory_mapped_is_a_disk_error(tmp_path, monkeypatch):
    """PyTorch raises RuntimeError instead of OSError."""
    np.save(tmp_path / "part.npy", np.zeros(3))

    def fail(*_, **__):
        raise RuntimeError("unable to open file: Input/output error (5)")

    monkeypatch.setattr(torch, "from_file", fail)
    with pytest.raises(OSError, match=r"Input/output error.*part\.npy"):
        frame_cache._read(tmp_path / "part.npy")


def test_memory_mapped_parts_keep_no_open_files(world, tmp_path):
    assert train(world, tmp_path / "run", tmp_path / "cache", "data.cached_draws=1") == 0
    path = next(p for p in parts(tmp_path / "cache") if p.suffix == ".npy")
    before = len(list(Path("/proc/self/fd").iterdir()))
    held = [frame_cache._read(path) for _ in range(20)]
    assert len(held) == 20 and len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "altered", "facts missing", "facts cut"])
def test_a_corrupted_part_is_recomputed(world, tmp_path, damage, capsys):
    arguments = (tmp_path / "cache", "data.cached_draws=1", "solver.epochs=1")
    assert train(world, tmp_path / "one", *arguments) == 0
    path = next(p for p in parts(tmp_path / "cache") if p.suffix == ".npy")
    whole = path.read_bytes()
    if damage.startswith("facts"):
        facts = path.with_suffix(".npz")
        facts.unlink() if damage == "facts missing" else facts.write_bytes(facts.read_bytes()[:-30])
    else:
        changed = bytearray(whole)
        changed[-3] ^= 1
        path.write_bytes({"truncated": whole[:-100], "empty": b"", "altered": bytes(changed)}[damage])
    capsys.readouterr()
    assert train(world, tmp_path / "two", *arguments) == 0
    assert f"{path} is corrupted" in capsys.readouterr().out
    np.testing.assert_allclose(np.load(path), np.load(io.BytesIO(whole)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5, atol=1e-6)


def test_replaced_clips_are_counted_and_read_again_when_repaired(world, tmp_path, monkeypatch):
    frames = tmp_path / "frames"
    shutil.copytree(world.root / "frames", frames)
    bad = frames / "train_0_0" / "img_00001.jpg"
    whole = bad.read_bytes()
    bad.write_bytes(b"")
    common = (f"data.train_root={frames}", "data.random_shift=false", "data.on_error=skip")
    skip = (*common, "data.cached_draws=1")
    assert train(world, tmp_path / "strict", tmp_path / "cache", *skip, "data.max_skipped_share=0.01") == 2
    assert train(world, tmp_path / "cached", tmp_path / "cache", *skip, "data.max_skipped_share=0.5") == 0
    tried, put, before = [], frame_cache.FrameCache._put, parts(tmp_path / "cache")
    monkeypatch.setattr(
        frame_cache.FrameCache, "_put", lambda self, work, *found: (tried.append(work.missing), put(self, work, *found))
    )
    assert train(world, tmp_path / "again", tmp_path / "cache", *skip, "data.max_skipped_share=0.5") == 0
    assert tried == [[0]] and parts(tmp_path / "cache") == before  # the clip is still unreadable
    skipped = [r["skipped_clips"] for r in records(tmp_path / "cached") if r["kind"] == "train"]
    assert sum(skipped) == 2  # once per epoch
    bad.write_bytes(whole)
    assert train(world, tmp_path / "repaired", tmp_path / "cache", *skip) == 0
    assert train(world, tmp_path / "fresh", tmp_path / "other", *skip) == 0
    # The repaired clip is embedded alone, but in a new cache in a batch.
    assert losses(tmp_path / "repaired") == pytest.approx(losses(tmp_path / "fresh"), rel=1e-5)
    assert losses(tmp_path / "repaired") != pytest.approx(losses(tmp_path / "cached"), rel=1e-5)


def test_changed_clips_are_recomputed(world, tmp_path, monkeypatch):
    videos = tmp_path / "videos"
    shutil.copytree(world.root / "videos", videos)
    arguments = (
        "data.modality=video", f"data.train_root={videos}", f"data.train_list={world.root}/train_videos.txt",
        f"data.val_root={videos}", f"data.val_list={world.root}/val_videos.txt", "data.cached_draws=1",
    )  # fmt: skip
    assert train(world, tmp_path / "one", tmp_path / "cache", *arguments) == 0
    shutil.copy(videos / "train_1_4.mp4", videos / "train_0_2.mp4")
    tried, put = [], frame_cache.FrameCache._put
    monkeypatch.setattr(
        frame_cache.FrameCache, "_put", lambda self, work, *found: (tried.append(work.missing), put(self, work, *found))
    )
    assert train(world, tmp_path / "two", tmp_path / "cache", *arguments) == 0
    assert tried == [[2]]
    assert train(world, tmp_path / "three", tmp_path / "cache", *arguments) == 0
    assert tried == [[2]]
    assert train(world, tmp_path / "fresh", tmp_path / "other", *arguments) == 0
    assert losses(tmp_path / "two") != losses(tmp_path / "one")
    for name in ("two", "three"):
        torch.testing.assert_close(losses(tmp_path / name), losses(tmp_path / "fresh"), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="a small disk needs root to be mounted")
def test_a_full_disk_is_reported_as_such(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = command("mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", disk)  # takes the first half of a part
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    try:
        cache = frame_cache.FrameCache(disk / "frames-0", ["clip"] * 16, 1, lambda path: (1, 1))
        cache.folder.mkdir()
        zeros = np.zeros(16, dtype=np.int64)
        part = frame_cache.Part(np.ones((16, 8, 32), dtype=np.float32), zeros, zeros > 0, np.zeros((16, 2), np.int64))
        with pytest.raises(OSError) as error:
            cache._write(0, 0, part)
        assert error.value.errno == errno.ENOSPC
        assert not any(cache.folder.iterdir())
    finally:
        command("umount", disk)


def test_a_tower_that_trains_is_refused(world, tmp_path, capsys):
    config = ("--config", world.config, f"logging.run_dir={tmp_path}", "data.cached_draws=1")
    assert call("train", *config) == 2
    assert "set network.fix_video to true" in capsys.readouterr().err


@pytest.mark.parametrize("check", [(), ("--check",)])
@pytest.mark.parametrize("place", ["a file", "/proc/x"])
def test_a_cache_folder_that_cannot_be_created(world, tmp_path, capsys, place, check):
    (tmp_path / "a file").write_text("")
    error = error_line(train(world, tmp_path / "run", tmp_path / place, "data.cached_draws=1", *check), capsys)
    assert error.startswith(f"error: logging.cache_dir {tmp_path / place}: ")
    assert not (tmp_path / "run").exists()


def test_a_read_only_cache_folder(world, tmp_path, capsys, monkeypatch):
    """Simulated, because tests may run as root, which can write everywhere."""
    assert train(world, tmp_path / "one", tmp_path / "cache", "data.cached_draws=1") == 0

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(frame_cache, "atomic_path", refuse)
    assert train(world, tmp_path / "two", tmp_path / "cache", "data.cached_draws=1") == 0
    capsys.readouterr()
    assert train(world, tmp_path / "three", tmp_path / "cache", "data.cached_draws=2") == 2
    error = capsys.readouterr().err
    assert re.fullmatch(
        r"error: logging\.cache_dir: .*frames-\w+ cannot be used \(Permission denied\); choose another folder\n", error
    )
