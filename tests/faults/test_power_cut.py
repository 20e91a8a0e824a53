"""Files on the disk when a run reports that it saved, and warnings about lines lost in a power cut."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.world import call, command, losses
from utils.checkpoint import load_checkpoint

EXT4_SHUTDOWN, WITHOUT_FLUSH = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN of linux/ext4.h: nothing more reaches the disk


def train(world, run_dir, *overrides):
    return call("train", "--config", world.config, f"logging.run_dir={run_dir}", *overrides)


def test_metrics_and_log_are_synced_before_the_checkpoint_and_the_folder_after(world, tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    assert train(world, tmp_path / "run", "solver.save_every=2") == 0
    saves = [number for number, name in enumerate(synced) if name.startswith("..last_model")]
    assert len(saves) == 5  # steps 2, 4, 6, 8 and the epoch
    for number in saves:
        assert synced[number - 2 : number] == ["metrics.jsonl", "log.txt"]
        assert synced[number + 1 : number + 3] == ["run", "run"]  # the temporary file's name, then the checkpoint's


def test_a_gap_between_metrics_and_checkpoint_is_reported(world, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert train(world, run_dir) == 0
    metrics = run_dir / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    assert train(world, run_dir, "resume=auto", "solver.epochs=2") == 0
    assert "lacks" not in capsys.readouterr().out
    metrics.write_text("".join(lines[:3]))  # 8 steps and a validation an epoch
    assert train(world, run_dir, "resume=auto", "solver.epochs=3") == 0
    assert f"WARNING: {metrics} lacks 13 of the 16 steps up to the checkpoint, starting with step 4" in (
        output := capsys.readouterr().out
    )
    assert f"WARNING: {metrics} lacks 2 of the 2 validations up to the checkpoint" in output
    metrics.unlink()
    assert train(world, run_dir, "resume=auto", "solver.epochs=4") == 0
    output = capsys.readouterr().out
    assert "lacks 24 of the 24 steps" in output and "lacks 3 of the 3 validations" in output
    assert train(world, tmp_path / "new", f"resume={run_dir / 'last_model.pt'}", "solver.epochs=5") == 0
    assert "lacks" not in capsys.readouterr().out


class Disk:
    """An ext4 file system in a file, mounted by a loop device."""

    def __init__(self, image: Path, folder: Path):
        self.image, self.folder = image, folder

    def mount(self) -> subprocess.CompletedProcess:
        return subprocess.run(["mount", "-o", "loop", self.image, self.folder], capture_output=True, text=True)

    def unmount(self) -> None:
        subprocess.run(["umount", self.folder], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("a disk in a file needs Linux, root and mkfs.ext4")
    disk = Disk(tmp_path / "disk.img", tmp_path / "disk")
    disk.folder.mkdir()
    with disk.image.open("wb") as file:
        file.truncate(2**29)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk.image], check=True)
    if (mounted := disk.mount()).returncode != 0:
        pytest.skip(f"a disk in a file cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk.folder], check=True)  # a run in this process may still have its log open


CUT_IN_THIRD_SAVE = f"""
import fcntl, os, struct, sys
from tests.commands.world import call
folder, config = sys.argv[1:]
fsync, saves = os.fsync, []

def cut(descriptor):
    fsync(descriptor)
    saves.append(os.readlink(f"/proc/self/fd/{{descriptor}}").split("/")[-1].startswith("..last_model"))
    if sum(saves) == 3:  # the checkpoint has its bytes on the disk, and not its name
        fcntl.ioctl(os.open(folder, os.O_RDONLY), {EXT4_SHUTDOWN}, struct.pack("I", {WITHOUT_FLUSH}))

os.fsync = cut
sys.exit(call("train", "--config", config, f"logging.run_dir={{folder}}/run", "solver.save_every=1"))
"""


def test_after_a_power_cut_the_checkpoint_has_its_metrics(world, disk, capsys):
    run_dir = disk.folder / "run"
    result = command(sys.executable, "-c", CUT_IN_THIRD_SAVE, disk.folder, world.config)
    assert result.returncode in (1, 2) and len(re.findall("^error: ", result.stderr, re.M)) == 1, result.stderr
    disk.unmount()
    assert disk.mount().returncode == 0
    saved = load_checkpoint(run_dir / "last_model.pt")["progress"]["step"]
    assert saved == 2 and len(losses(run_dir)) >= 2
    assert train(world, run_dir, "resume=auto") == 0
    assert "lacks" not in capsys.readouterr().out and len(losses(run_dir)) == 8
