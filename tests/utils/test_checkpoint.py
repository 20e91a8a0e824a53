"""Checkpoints: intact, modified, truncated, malicious."""

import argparse
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from modules.embed import load_table
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.files import atomic_path, write_text_atomic
from utils.hashing import content_hash, file_hash


def state():
    return {
        "epoch": 3,
        "model_state_dict": {"visual.proj": torch.randn(4, 5), "logit_scale": torch.tensor(4.6)},
        "optimizer_state_dict": {"state": {0: {"exp_avg": torch.randn(3)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
        "config": "seed: 1\n",
    }


def test_round_trip(tmp_path):
    before = state()
    save_checkpoint(tmp_path / "a.pt", before)
    after = load_checkpoint(tmp_path / "a.pt")
    assert content_hash(after) == content_hash(before) and after["optimizer_state_dict"]["param_groups"][0][
        "betas"
    ] == (0.9, 0.999)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_published_layout_has_no_hash_and_loads(tmp_path):
    torch.save({"epoch": 29, "model_state_dict": {"logit_scale": torch.tensor(1.0)}}, tmp_path / "p.pt")
    assert load_checkpoint(tmp_path / "p.pt")["epoch"] == 29


def test_modified_truncated_missing_and_malicious_files_are_named(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, state())
    whole = torch.load(path, weights_only=True)
    whole["model_state_dict"]["logit_scale"] += 1
    torch.save(whole, tmp_path / "altered.pt")
    (tmp_path / "cut.pt").write_bytes(path.read_bytes()[:-200])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("hello")

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save({"epoch": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save([1, 2], tmp_path / "list.pt")
    parts = {
        "altered": "was modified",
        "cut": "use another copy",
        "empty": "use another copy",
        "text": "use another copy",
        "bomb": "mkdir.*could run code",
        "plain": "use another copy",
        "list": "contains a list",
        "absent": "no such checkpoint",
    }
    for name, part in parts.items():
        with pytest.raises(UserError, match=part) as error:
            load_checkpoint(tmp_path / f"{name}.pt")
        assert f"{name}.pt" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "exploded").exists()


def weights():
    return {"visual.proj": torch.randn(4, 5), "logit_scale": torch.tensor(4.6)}


def renamed(prefix):
    return {prefix + name: value for name, value in weights().items()}


OTHERS = {
    "numpy scalars": {
        "model_state_dict": weights(),
        "best_acc": np.float64(71.2),
        "hits": [np.int64(3), np.float32(1)],
    },
    "a numpy array": {"model_state_dict": weights(), "curve": np.arange(3.0)},
    "arguments": {"model_state_dict": weights(), "args": argparse.Namespace(lr=1, out=Path("exp"))},
    "state_dict": {"epoch": 3, "state_dict": weights()},
    "model": {"epoch": 3, "model": weights()},
    "bare": weights(),
    "DeepSpeed": {"module": weights(), "ds_version": "0.1"},
    "Lightning": {"state_dict": renamed("model."), "pytorch-lightning_version": "2.4"},
    "torch.compile": {"model_state_dict": renamed("_orig_mod.")},
    "torch.compile in DDP": {"model_state_dict": renamed("module._orig_mod.")},
    "a compiled part": {"model_state_dict": {"visual._orig_mod.proj": torch.ones(1), "logit_scale": torch.ones(1)}},
}


@pytest.mark.parametrize("layout", list(OTHERS))
def test_other_programs_layouts(tmp_path, layout):
    torch.save(OTHERS[layout], tmp_path / "w.pt")
    found = load_checkpoint(tmp_path / "w.pt")["model_state_dict"]
    assert found.keys() == weights().keys() and all(map(torch.is_tensor, found.values()))


def test_checkpoints_with_yacs_configs_are_read(tmp_path, monkeypatch):
    """As in X-CLIP's checkpoints; yacs is not installed, so its class is made here."""
    config = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    for name in ("yacs", "yacs.config"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(CfgNode=config))
    tree = config(DATA=config(NUM_FRAMES=8))
    tree.__dict__["__immutable__"] = True
    torch.save({"model": weights(), "config": tree}, tmp_path / "w.pt")
    monkeypatch.delitem(sys.modules, "yacs.config")
    found = load_checkpoint(tmp_path / "w.pt")
    assert found["model_state_dict"].keys() == weights().keys() and found["config"]["DATA"]["NUM_FRAMES"] == 8


def test_scalars_pickled_by_older_numpy_are_read(tmp_path):
    """A file of NumPy 1 names numpy.core."""
    torch.save({"model_state_dict": weights(), "best": np.float64(2)}, tmp_path / "new.pt")
    with zipfile.ZipFile(tmp_path / "new.pt") as source, zipfile.ZipFile(tmp_path / "old.pt", "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b"numpy._core", b"numpy.core"))
    assert load_checkpoint(tmp_path / "old.pt")["best"] == 2


@pytest.mark.parametrize("kind", ["compressed", "shape"])
def test_a_compression_bomb_is_refused_without_reading_it(tmp_path, kind):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        shape = (100 << 20,) if kind == "compressed" else (1 << 40,)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for _ in range(100 if kind == "compressed" else 0):
            file.write(bytes(1 << 20))
    with pytest.raises(UserError, match=r"bomb.npz: unpacks to \d+ MiB from a file of \d+ bytes"):
        load_table(path)
    path.rename(tmp_path / "bomb.pt")
    with pytest.raises(UserError, match="bomb.pt: unpacks to"):
        load_checkpoint(tmp_path / "bomb.pt")


def test_a_tensor_that_repeats_few_stored_values_is_refused(tmp_path):
    torch.save({"model_state_dict": {"a": torch.zeros(1).expand(10**12)}}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w.pt: a tensor of shape \(1000000000000,\) is larger than the file's data"):
        load_checkpoint(tmp_path / "w.pt")


def mapped_bytes(tensor: torch.Tensor) -> bool:
    """Whether the tensor's data are in a mapped checkpoint file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(address, 16) for address in line.split()[0].split("-"))
        if begin <= tensor.data_ptr() < end:
            return line.endswith(".pt")
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_share_the_memory_of_a_loaded_checkpoint(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"model_state_dict": {"a": torch.arange(5000.0)}}, path)
    before = path.read_bytes()
    loaded = load_checkpoint(path)["model_state_dict"]["a"]
    assert mapped_bytes(loaded)
    loaded += 1  # changes neither the file nor what others read from it
    assert path.read_bytes() == before
    torch.save({"model_state_dict": {"a": torch.zeros(5000)}}, tmp_path / "b.pt")
    (tmp_path / "b.pt").replace(path)
    assert torch.equal(loaded, torch.arange(1.0, 5001))


@pytest.mark.parametrize("how", ["compressed", "legacy"])
def test_other_formats_are_read_into_memory(tmp_path, how):
    path = tmp_path / "a.pt"
    values = torch.arange(5000.0)
    torch.save({"model_state_dict": {"a": values}}, path, _use_new_zipfile_serialization=how != "legacy")
    if how == "compressed":
        path.rename(tmp_path / "stored")
        with (
            zipfile.ZipFile(tmp_path / "stored") as source,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
        ):
            for name in source.namelist():
                target.writestr(name, source.read(name))
    assert torch.equal(load_checkpoint(path)["model_state_dict"]["a"], values)


def test_sparse_tensors_are_read(tmp_path):
    torch.save({"model_state_dict": weights(), "masks": torch.eye(2).to_sparse()}, tmp_path / "w.pt")
    assert load_checkpoint(tmp_path / "w.pt")["masks"].is_sparse


def test_arbitrary_bytes_are_a_user_error(tmp_path):
    path = tmp_path / "any.pt"
    for byte in range(256):  # including each opcode of pickle
        path.write_bytes(bytes([byte]) + b"cut")
        with pytest.raises(UserError, match="any.pt"):
            load_checkpoint(path)


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_content_hash_depends_on_values_types_and_names_not_on_order():
    a, b = torch.arange(4.0), torch.arange(4.0).reshape(2, 2)
    assert content_hash({"a": a, "b": 1}) == content_hash({"b": 1, "a": a.clone()})
    different = [
        {"a": a},
        {"a": b},
        {"a": a.double()},
        {"b": a},
        {"a": a + 1e-6},
        {"a": a.tolist()},
        {"a": 1},
        {"a": "1"},
    ]
    assert len({content_hash(tree) for tree in different}) == len(different)


def test_file_hash(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_hash(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text_atomic(pipe, "hello")
    assert os.read(reader, 10) == b"hello" and pipe.is_fifo()
    os.close(reader)
