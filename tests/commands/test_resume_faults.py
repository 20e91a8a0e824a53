"""Resuming from checkpoints that are corrupted, missing or different; and saving on a full disk."""

import errno
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import keeper
from tests.commands.world import REPO, call, command, losses, records
from tests.faults_of import error_line
from utils.checkpoint import load_checkpoint, save_checkpoint


def train(world, run_dir, *overrides):
    return call("train", "--config", world.config, f"logging.run_dir={run_dir}", *overrides)


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """A run of one epoch that may be copied."""
    path = tmp_path_factory.mktemp("finished") / "run"
    assert train(world, path, "solver.epochs=2", "solver.save_every=3") == 0
    return path


@pytest.fixture
def run_dir(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


class Killed(BaseException):
    """Like SIGKILL: nothing is cleaned up."""


def test_the_good_checkpoint_survives_a_kill_during_the_first_save_after_a_damaged_one(world, run_dir, monkeypatch):
    (run_dir / "last_model.pt").write_bytes(b"cut")

    def die(*arguments):
        raise Killed

    for step in ("save_checkpoint", "_link"):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(keeper, step, die)
            train(world, run_dir, "solver.epochs=3", "resume=auto")
        load_checkpoint(run_dir / "last_model.1.pt")
    assert train(world, run_dir, "solver.epochs=3", "resume=auto") == 0
    for name in ("last_model.pt", "last_model.1.pt", "best_model.pt"):
        load_checkpoint(run_dir / name)
    assert not list(run_dir.glob(".*tmp"))


def test_a_kill_at_any_point_of_a_save_keeps_the_best(world, tmp_path, monkeypatch):
    """best_model.pt exists whenever last_model.pt has its score."""
    replace, calls = keeper.Path.replace, []

    def replace_then_die(self, target):
        replace(self, target)
        if self.name.startswith(".best_model") or str(target).endswith("last_model.pt"):
            calls.append(target)
            if len(calls) == die_at:
                raise Killed

    for die_at in (1, 2, 3):  # best_model.pt, last_model.pt, last_model.pt of the second epoch
        calls.clear()
        run = tmp_path / str(die_at)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(keeper.Path, "replace", replace_then_die)
            train(world, run, "solver.epochs=2")
        if (run / "last_model.pt").exists() and load_checkpoint(run / "last_model.pt")["progress"]["best_top1"] > -1:
            load_checkpoint(run / "best_model.pt")


def test_a_best_score_whose_checkpoint_was_not_saved_does_not_count(world, tmp_path, monkeypatch):
    link = keeper._link

    def fail_for_best(source, target):
        if target.name == "best_model.pt" and not (tmp_path / "full").exists():
            (tmp_path / "full").touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        link(source, target)

    monkeypatch.setattr(keeper, "_link", fail_for_best)
    assert train(world, tmp_path / "run", "solver.epochs=3", "solver.lr=1e-9") == 0
    best = load_checkpoint(tmp_path / "run" / "best_model.pt")["progress"]["best_top1"]
    assert best == load_checkpoint(tmp_path / "run" / "last_model.pt")["progress"]["best_top1"] >= 0


def test_validating_an_older_checkpoint_changes_nothing(world, run_dir):
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    assert train(world, run_dir, f"resume={run_dir / 'last_model.1.pt'}", "solver.evaluate=true") == 0
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (("solver.optim=sgd",), "its optimiser does not fit this config (another solver.optim"),
        (("data.train_list=short.txt",), "was saved after 12 clips of an epoch, and data.train_list now has 3"),
    ],
)
def test_mismatched_settings_are_a_one_line_error(world, run_dir, tmp_path, overrides, part, capsys):
    lines = (world.root / "train_frames.txt").read_text().splitlines(keepends=True)
    (tmp_path / "short.txt").write_text("".join(lines[:3]))
    overrides = [text.replace("=short", f"={tmp_path}/short") for text in overrides]
    middle = run_dir / "last_model.1.pt"  # after six steps of two clips, or twelve
    assert load_checkpoint(middle)["progress"]["consumed_clips"] > 3
    assert part.split("12 clips")[0] in error_line(
        train(world, run_dir, "solver.epochs=3", f"resume={middle}", *overrides), capsys
    )


@pytest.mark.parametrize(
    "override",
    ("seed=7", "data.shot=1", "network.classifier=random", "network.prompt=a clip of {}", "solver.loss_type=NCE"),
)
def test_another_run_is_not_resumed(world, run_dir, override, capsys):
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    assert train(world, run_dir, "solver.epochs=3", "resume=auto", override) == 2
    error = capsys.readouterr().err
    key, _, value = override.partition("=")
    assert f"last_model.pt: {key} was " in error and f" and is {value} now; set {key}=" in error
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before


def test_a_resumed_few_shot_run_keeps_its_selection(world, tmp_path, capsys):
    assert train(world, tmp_path, "data.shot=1") == 0
    picks = (tmp_path / "few_shot.txt").read_text()
    for other in ("data.shot=2", "data.shot_seed=1"):
        assert train(world, tmp_path, "data.shot=1", "resume=auto", other) == 2
        assert f"{other.split('=')[0]} was " in capsys.readouterr().err
    assert (tmp_path / "few_shot.txt").read_text() == picks


def test_keys_that_may_change_when_resuming(world, run_dir, tmp_path, capsys):
    moved = shutil.copy(world.root / "train_frames.txt", tmp_path / "moved.txt")
    changes = ("solver.lr=1e-4", "data.batch_size=3", "data.shot_seed=5", f"data.train_list={moved}", "resume=auto")
    assert train(world, run_dir, "solver.epochs=3", *changes) == 0
    assert "has no effect" not in capsys.readouterr().out
    assert train(world, run_dir, "solver.epochs=3", "solver.lr=1e-5", *changes[1:]) == 0
    assert "has finished all 3 epochs: nothing is trained, and changing solver.lr has" in capsys.readouterr().out


def test_another_image_size_can_be_validated_but_not_resumed(world, run_dir, capsys):
    assert train(world, run_dir, "solver.epochs=3", "resume=auto", "data.input_size=48") == 2
    error = capsys.readouterr().err
    assert "visual.positional_embedding" in error and ": another data.input_size?" in error
    assert train(world, run_dir, "resume=auto", "data.input_size=48", "solver.evaluate=true") == 0


def test_a_resumed_run_uses_the_weight_decay_of_the_config(world, run_dir):
    assert train(world, run_dir, "solver.epochs=3", "resume=auto", "solver.weight_decay=0.01") == 0
    groups = load_checkpoint(run_dir / "last_model.pt")["optimizer_state_dict"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.01]


def test_an_invalid_record_is_a_one_line_error(world, run_dir, capsys):
    path = run_dir / "metrics.jsonl"
    path.write_text("nonsense}\n" + path.read_text())
    assert train(world, run_dir, "solver.epochs=3", "resume=auto") == 2
    assert f"{path}: invalid metrics file" in capsys.readouterr().err
    path.unlink()
    path.mkdir()
    assert train(world, run_dir, "solver.epochs=3", "resume=auto") == 2
    assert f"{path}: invalid metrics file" in capsys.readouterr().err


def test_machines_with_separate_run_folders_are_an_error(world, run_dir, tmp_path):
    """Two processes with separate repositories, and thus different relative run folders."""
    script = tmp_path / "each_in_its_folder.py"
    script.write_text(
        "import os, runpy, sys\n"
        f"sys.path.insert(0, {str(REPO)!r})\n"
        f"os.chdir({str(tmp_path)!r} + '/' + os.environ['RANK'])\n"
        "import pathlib, utils.project_paths\n"
        "utils.project_paths.REPOSITORY = pathlib.Path.cwd()\n"
        f"runpy.run_path({str(REPO / 'train.py')!r}, run_name='__main__')\n"
    )
    (tmp_path / "1").mkdir()
    shutil.copytree(run_dir, tmp_path / "0" / "run")
    run = command(
        "torchrun", "--standalone", "--nproc_per_node", 2, script, "--config", world.config, "logging.run_dir=run",
        "resume=auto", "solver.epochs=3", PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )  # fmt: skip
    assert run.returncode != 0
    assert (
        "the processes would resume from different checkpoints (process 0: run/last_model.pt, process 1: none)"
        in run.stderr
    )
    assert len(records(tmp_path / "0" / "run")) == len(records(run_dir))


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="a small disk needs root to be mounted")
def test_a_disk_that_fills_up(world, finished, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sum(path.stat().st_size for path in finished.glob("*.pt"))
    mounted = command("mount", "-t", "tmpfs", "-o", f"size={2 * size}", "tmpfs", disk)
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    try:
        fill = disk / "other"
        script = (
            f"import os, sys; sys.path.insert(0, {str(REPO)!r})\n"
            "from modules.training import Trainer\n"
            "from tests.commands.world import call\n"
            "step = Trainer._step\n"
            "def fill_then_step(self, batches, sizes, progress):\n"
            f"    if progress.step == 6:\n"
            f"        with open({str(fill)!r}, 'wb', buffering=0) as file:\n"
            "            try:\n"
            "                while file.write(bytes(4096)):\n                    pass\n"
            "            except OSError:\n                pass\n"
            "    if progress.step == 12:\n"
            f"        os.remove({str(fill)!r})\n"
            "    return step(self, batches, sizes, progress)\n"
            "Trainer._step = fill_then_step\n"
            f"sys.exit(call('train', '--config', {str(world.config)!r}, 'logging.run_dir={disk / 'run'}',\n"
            "     'solver.epochs=2', 'solver.save_every=2', 'logging.tensorboard=true'))\n"
        )
        run = command(sys.executable, "-c", script)
        assert run.returncode == 0, run.stderr
        assert "WARNING: no checkpoint written" in run.stdout and "No space left on device" in run.stdout
        assert "Traceback" not in run.stderr, run.stderr
        # Not bit-equal: TensorBoard, which only one run uses, changes the alignment of tensors in memory, and with
        # several threads kernels then sum in another order.
        assert losses(disk / "run") == pytest.approx(losses(finished), abs=1e-5)
        ours, uninterrupted = (load_checkpoint(path / "last_model.pt") for path in (disk / "run", finished))
        torch.testing.assert_close(ours["model_state_dict"], uninterrupted["model_state_dict"], rtol=0, atol=1e-4)
        del ours  # maps its file, so that the disk is busy
    finally:
        unmounted = command("umount", disk)
    assert unmounted.returncode == 0, unmounted.stderr


def test_a_run_resumes_from_numbers_of_pytorch_and_numpy(world, run_dir):
    state = torch.load(run_dir / "last_model.pt", weights_only=False)
    progress = {
        name: np.float64(v) if name.startswith("best") else np.int64(v) for name, v in state["progress"].items()
    }
    save_checkpoint(run_dir / "last_model.pt", state | {"epoch": torch.tensor(1), "progress": progress})
    assert train(world, run_dir, "solver.epochs=3", "resume=auto") == 0
    assert [record["epoch"] for record in records(run_dir) if record["kind"] == "val"] == [1, 2, 3]
    assert type(load_checkpoint(run_dir / "last_model.pt")["progress"]["step"]) is int
