"""error_messages.md: weights, run folders and numbers."""

import errno
import os
import signal
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

from engine import keeper
from engine.folder_lock import folder_lock
from tests.commands.errors_page import expect, rows_of
from tests.commands.world import call, tiny_clip_state

WEIGHTS, RUNS, NUMBERS = rows_of("Weights"), rows_of("Run folders"), rows_of("Numbers")


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self._folder),)


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """Checkpoints of the world's config, without and with joint space-time attention."""
    root = tmp_path_factory.mktemp("trained")
    assert call("train", "--config", world.config, f"logging.run_dir={root / 'plain'}") == 0
    joint = ("network.joint_st=true", "network.sim_header=None")
    assert call("train", "--config", world.config, f"logging.run_dir={root / 'joint'}", *joint) == 0
    return root


def missing(world, trained, folder):
    return folder / "nowhere.pt", ()


def truncated(world, trained, folder):
    data = (trained / "plain" / "last_model.pt").read_bytes()
    (folder / "cut.pt").write_bytes(data[: len(data) // 2])
    return folder / "cut.pt", ()


def altered(world, trained, folder):
    state = torch.load(trained / "plain" / "last_model.pt", weights_only=True)
    state["model_state_dict"]["logit_scale"] += 1
    torch.save(state, folder / "altered.pt")
    return folder / "altered.pt", ()


def bomb(world, trained, folder):
    torch.save({"epoch": 0, "model_state_dict": Bomb(folder / "exploded")}, folder / "bomb.pt")
    return folder / "bomb.pt", ()


def huge(folder):
    with zipfile.ZipFile(folder / "huge.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(80 << 20))
    return folder / "huge.pt"


def other_architecture(world, trained, folder):
    torch.save(tiny_clip_state(layers=3), folder / "other_clip.pt")
    return trained / "plain" / "last_model.pt", (f"network.arch={folder / 'other_clip.pt'}",)


def other_head(world, trained, folder):
    return trained / "plain" / "last_model.pt", ("network.sim_header=None",)


def other_number_of_frames(world, trained, folder):
    joint = ("network.joint_st=true", "network.sim_header=None", "data.num_segments=8")
    return trained / "joint" / "last_model.pt", joint


def more_frames_for_the_head(world, trained, folder):
    return trained / "plain" / "last_model.pt", ("data.num_segments=6",)


def clip_missing(world, trained, folder):
    return trained / "plain" / "last_model.pt", (f"network.arch={folder / 'nowhere.pt'}",)


def clip_truncated(world, trained, folder):
    (folder / "cut_clip.pt").write_bytes(world.arch.read_bytes()[:5000])
    return trained / "plain" / "last_model.pt", (f"network.arch={folder / 'cut_clip.pt'}",)


def clip_bomb(world, trained, folder):
    torch.save({"visual.proj": Bomb(folder / "exploded")}, folder / "bomb_clip.pt")
    return trained / "plain" / "last_model.pt", (f"network.arch={folder / 'bomb_clip.pt'}",)


def clip_huge(world, trained, folder):
    return trained / "plain" / "last_model.pt", (f"network.arch={huge(folder)}",)


WEIGHT_CASES = {
    "missing": missing,
    "truncated": truncated,
    "altered": altered,
    "holds code (pickle bomb)": bomb,
    "an archive that unpacks to far more than its size": lambda world, trained, folder: (huge(folder), ()),
    "other architecture": other_architecture,
    "other temporal head": other_head,
    "other number of frames, joint_st": other_number_of_frames,
    "other number of frames, Transf": more_frames_for_the_head,
    "CLIP's weights missing": clip_missing,
    "CLIP's weights truncated": clip_truncated,
    "CLIP's weights are such an archive": clip_huge,
    "CLIP's weights hold code": clip_bomb,
}


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_weights(world, trained, tmp_path, capsys, name):
    weights, words = WEIGHT_CASES[name](world, trained, tmp_path)
    out = tmp_path / "out"
    expect(WEIGHTS[name], capsys, out, "test", "--config", world.config, "--weights", weights, "--out", out, *words)
    assert not (tmp_path / "exploded").exists()


def full_disk(monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keeper, "save_checkpoint", full)


def other_classes(trained, tmp_path):
    (tmp_path / "labels.csv").write_text("id,name\n0,riding a bike\n1,playing guitar\n2,diving\n")
    return trained / "plain", ("resume=auto", f"data.label_list={tmp_path / 'labels.csv'}")


def altered_state(**entries):
    def case(trained, tmp_path):
        state = torch.load(trained / "plain" / "last_model.pt", weights_only=True)
        del state["content_hash"]  # as written by another program
        torch.save({**state, **entries}, tmp_path / "other.pt")
        return tmp_path / "run", (f"resume={tmp_path / 'other.pt'}",)

    return case


@contextmanager
def held_by_another_process(run_dir: Path) -> Iterator[None]:
    started, start = os.pipe()
    owner = os.fork()
    if owner == 0:
        with folder_lock(run_dir, "logging.run_dir"):
            os.write(start, b"1")
            signal.pause()
    os.read(started, 1)
    try:
        yield
    finally:
        os.kill(owner, signal.SIGKILL)
        os.waitpid(owner, 0)
        os.close(started)
        os.close(start)


RUN_CASES = {
    "exists": lambda trained, tmp_path: (trained / "plain", ()),
    "in use by another run": lambda trained, tmp_path: (tmp_path / "run", ()),
    "not writable": lambda trained, tmp_path: (Path("/proc/run"), ()),
    "a file in its place": lambda trained, tmp_path: (trained / "plain" / "log.txt", ()),
    "named twice": lambda trained, tmp_path: (trained.with_name("new"), ("--log_time", "001")),
    "nothing to resume": lambda trained, tmp_path: (tmp_path / "run", (f"resume={tmp_path / 'nowhere.pt'}",)),
    "an epoch that cannot be": altered_state(epoch=-5),
    "progress of another program": altered_state(progress=None),
    "another run": lambda trained, tmp_path: (trained / "plain", ("resume=auto", "data.shot=2")),
    "a run of other classes": other_classes,
    "another image size": lambda trained, tmp_path: (
        tmp_path / "run",
        (f"resume={trained / 'plain' / 'last_model.pt'}", "data.input_size=48"),
    ),
    "made with another optimiser": lambda trained, tmp_path: (
        tmp_path / "run",
        (f"resume={trained / 'plain' / 'last_model.pt'}", "solver.optim=sgd"),
    ),
    "disk full": lambda trained, tmp_path: (tmp_path / "run", ()),
}


@pytest.mark.parametrize("name", list(RUNS))
def test_run_folders(world, trained, tmp_path, capsys, monkeypatch, name):
    run_dir, words = RUN_CASES[name](trained, tmp_path)
    watched = tmp_path / "run"
    if name == "disk full":
        full_disk(monkeypatch)
        watched = (
            tmp_path / "run" / "checkpoints"
        )  # log and metrics exist; there must be no complete or partial checkpoint
    with held_by_another_process(run_dir) if name == "in use by another run" else nullcontext():
        words = ("--config", world.config, f"logging.run_dir={run_dir}", *words)
        expect(RUNS[name], capsys, watched, "train", *words, code=1 if name == "disk full" else 2)
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.rglob("*_model.pt"))


NUMBER_CASES = {"loss not finite": ("solver.lr=1e30", "solver.clip_ratio=1", "solver.lr_warmup_step=0")}


@pytest.mark.parametrize("name", list(NUMBERS))
def test_numbers(world, tmp_path, capsys, name):
    words = ("--config", world.config, f"logging.run_dir={tmp_path / 'run'}", *NUMBER_CASES[name])
    expect(NUMBERS[name], capsys, tmp_path / "run" / "checkpoints", "train", *words)
    assert not list(tmp_path.rglob("*_model.pt"))


def test_each_case_has_its_row():
    assert set(WEIGHTS) == set(WEIGHT_CASES) and set(RUNS) == set(RUN_CASES) and set(NUMBERS) == set(NUMBER_CASES)
