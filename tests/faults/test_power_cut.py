"""What a run has on the disk when it says that it saved, and what it says of lines that a power cut took."""

import os
from pathlib import Path

from tests.commands.world import call


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
        capsys.readouterr().out
    )
    metrics.unlink()
    assert train(world, run_dir, "resume=auto", "solver.epochs=4") == 0
    assert "lacks 24 of the 24 steps" in capsys.readouterr().out
    assert train(world, tmp_path / "new", f"resume={run_dir / 'last_model.pt'}", "solver.epochs=5") == 0
    assert "lacks" not in capsys.readouterr().out
