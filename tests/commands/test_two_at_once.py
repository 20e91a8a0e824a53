"""Two commands at once in one folder, and files that change while a command reads them: right results, or one line."""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

import engine.test
import inference.model
from inference.model import read_checkpoint
from tests.commands.world import REPO, call, entry_script
from tests.tools.list_inputs import add_frames, run
from tests.tools.test_make_lists_untrimmed import activitynet_entry
from utils.hashing import file_hash

HOLD = """
import sys
from pathlib import Path
from engine.folder_lock import folder_lock

with folder_lock(Path(sys.argv[1]), "--out"):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def locked(folder):
    """Lock a folder by another process; yields its id."""
    words = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(words, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process.pid
        process.stdin.close()


@pytest.fixture(scope="module")
def run_dir(world, tmp_path_factory):
    """A trained run; tests change copies of it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert call("train", "--config", world.config, f"logging.run_dir={folder}") == 0
    return folder


@pytest.fixture
def weights(run_dir, tmp_path):
    shutil.copy(run_dir / "last_model.pt", tmp_path)
    shutil.copy(run_dir / "config.yaml", tmp_path)
    return tmp_path / "last_model.pt"


@pytest.mark.parametrize("script", ["test", "test_zeroshot"])
def test_a_second_test_into_a_folder_is_refused(world, weights, tmp_path, capsys, script):
    out = tmp_path / "out"
    with locked(out) as pid:
        assert call(script, "--config", world.config, "--weights", weights, "--out", out) == 2
    assert f"error: --out: {out} is in use by process {pid} on " in capsys.readouterr().err
    assert not (out / "embeddings.npz").exists()
    assert call(script, "--config", world.config, "--weights", weights, "--out", out) == 0
    assert not (out / ".lock").exists()


def test_segments_are_cut_by_one_command_at_a_time(tmp_path, capsys):
    entries = {"a": activitynet_entry("training", (1, 5, "Zumba")), "b": activitynet_entry("validation", (0, 4, "BMX"))}
    (tmp_path / "anet.json").write_text(json.dumps({"database": entries}))
    for name in ("v_a", "v_b"):
        add_frames(tmp_path / "frames", name)
    words = ("--json", tmp_path / "anet.json", "--root", tmp_path / "frames", "--out", tmp_path / "out")
    with locked(tmp_path / "cut") as pid:
        assert run("activitynet", *words, "--instances", tmp_path / "cut") == 2
    assert f"--instances: {tmp_path / 'cut'} is in use by process {pid} on " in capsys.readouterr().err
    assert run("activitynet", *words, "--instances", tmp_path / "cut") == 0


@pytest.mark.parametrize("script", ["test", "test_zeroshot"])
def test_a_test_that_is_killed_while_it_writes_leaves_no_mixture_with_an_earlier_one(
    world, weights, tmp_path, monkeypatch, capsys, script
):
    words = ("--config", world.config, "--weights", weights, "--out", tmp_path / "out")
    assert call(script, *words) == 0
    module = sys.modules["engine.test" if script == "test" else "engine.zeroshot"]

    def kill(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_summary", kill)
    assert call(script, *words) == 130
    assert call("report", tmp_path / "out") == 2
    assert "summary.json: no such file; the test did not finish, run it again" in capsys.readouterr().err


def test_the_hash_in_the_summary_is_that_of_the_weights_that_were_tested(world, weights, tmp_path, monkeypatch):
    """A training may replace last_model.pt while it is tested."""
    before, embed_with = file_hash(weights), engine.test.embed_with

    def replace_first(*arguments):
        weights.write_bytes(b"the next epoch")
        return embed_with(*arguments)

    monkeypatch.setattr(engine.test, "embed_with", replace_first)
    kept = weights.with_name("kept.pt")
    kept.hardlink_to(weights)
    weights.unlink()
    shutil.copy(kept, weights)
    assert call("test", "--config", world.config, "--weights", weights, "--out", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["weights_hash"] == before


def test_a_checkpoint_that_is_replaced_between_reading_and_hashing_is_read_again(weights, monkeypatch):
    load, loads = inference.model.load_checkpoint, []

    def load_and_replace(path):
        loads.append(load(path))
        if len(loads) == 1:
            shutil.copy(weights, weights.with_name("new.pt"))
            weights.with_name("new.pt").replace(weights)
        return loads[-1]

    monkeypatch.setattr(inference.model, "load_checkpoint", load_and_replace)
    checkpoint = read_checkpoint(weights, with_hash=True)
    assert len(loads) == 2 and checkpoint.sha256 == file_hash(weights)
    assert read_checkpoint(weights).sha256 is None and len(loads) == 3


def test_a_zero_shot_test_does_not_replace_the_table_that_it_reads(world, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert call("test", "--config", world.config, "--weights", weights, "--out", out) == 0
    words = ("--config", world.config, "--reuse", out / "embeddings.npz", "--out", out)
    assert call("test_zeroshot", *words) == 2
    assert "--out" in (error := capsys.readouterr().err) and "would replace a file that this command reads" in error
    assert entry_script("report") and call("report", out, "--no_frames") == 0
