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

from clip.weights import read_weights
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
        "plain": "pickle protocol 4 or later",
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
    "nested": {"model": {"state_dict": weights(), "name": "ViT"}, "state_dict": {"step": 3}},
    "NumPy's texts": {
        "state_dict": weights(),
        "names": np.array(["a", "bc"]),
        "best": np.str_("a"),
        "raw": np.bytes_(),
    },
    "NumPy's times": {"state_dict": weights(), "at": np.datetime64("2024-01-02"), "took": np.timedelta64(3, "s")},
    "objects": {"state_dict": weights(), "runs": np.array([{"lr": 1}, None], dtype=object)},
    "ranges": {"state_dict": weights(), "epochs": range(3), "frozen": frozenset(["visual"])},
    "big-endian": {"state_dict": weights(), "curve": np.arange(3, dtype=">f4"), "c": np.complex64(1j)},
    "a compiled part": {"model_state_dict": {"visual._orig_mod.proj": torch.ones(1), "logit_scale": torch.ones(1)}},
}


@pytest.mark.parametrize("layout", list(OTHERS))
def test_other_programs_layouts(tmp_path, layout):
    """Both as a checkpoint and as CLIP's weights; NumPy's values stay as they were."""
    content = OTHERS[layout] | {"text_projection": torch.ones(1)} if layout == "bare" else OTHERS[layout]
    torch.save(content, tmp_path / "w.pt")
    loaded = load_checkpoint(tmp_path / "w.pt")
    found = loaded.pop("model_state_dict")
    assert found.keys() - {"text_projection"} == weights().keys() and all(map(torch.is_tensor, found.values()))
    for name, value in loaded.items():
        assert type(value) is type(content[name]) or isinstance(value, np.ndarray)
        assert np.array_equal(value, content[name]) if isinstance(value, np.ndarray) else value == content[name]
    if "model_state_dict" in content:  # without a text tower: a video checkpoint
        with pytest.raises(UserError, match=r"w.pt: is a video checkpoint"):
            read_weights(tmp_path / "w.pt")
    else:
        assert read_weights(tmp_path / "w.pt").tensors.keys() == found.keys()


@pytest.mark.parametrize("read", [load_checkpoint, read_weights])
def test_files_that_are_refused_say_why(tmp_path, recwarn, read):
    path = tmp_path / "w.pt"
    torch.save({"state_dict": weights()}, path, pickle_protocol=4)
    with pytest.raises(UserError, match=r"w.pt: was saved with pickle protocol 4 .* torch.save\(model.state_dict"):
        read(path)
    torch.save({"state_dict": weights(), "lock": slice(3)}, path)
    with pytest.raises(UserError, match=r"contains slice besides tensors .* torch.save\(checkpoint\['state_dict'\]"):
        read(path)
    torch.save({"state_dict": weights(), "epochs": range(10**9)}, path)
    with pytest.raises(UserError, match="corrupted"):
        read(path)
    torch.save({"model": {"state_dict": {"step": 3}}}, path)
    with pytest.raises(UserError, match=r"no state dict, .* under model_state_dict, .*; it contains model; save only"):
        read(path)
    assert not [warning for warning in recwarn if "pickle protocol" in str(warning.message)]


class Crafted:
    """Makes a NumPy value with a given state of its data type."""

    def __init__(self, kind, state):
        self.made = np.dtype, (kind, False, True), state

    def __reduce__(self):
        return self.made


@pytest.mark.parametrize(
    ("kind", "state", "shape"),
    [
        ("f8", (3, "<", None, None, None, -1, -1, 63), (1,)),  # says that its values are pointers
        ("U1", (3, "<", None, None, None, -4, 4, 8), (1,)),
        ("f8", (3, "<", None, None, None, -1, -1, 0), (-1, -1)),
        ("f8", (3, "<", None, None, None, -1, -1, 0), (1 << 32, 1 << 32)),
        ("O8", (3, "|", None, None, None, -1, -1, 0), (1,)),
    ],
)
def test_crafted_numpy_values_do_not_reach_numpy(tmp_path, kind, state, shape):
    class Array:
        def __reduce__(self):
            made, args, _ = np.zeros(1).__reduce__()
            return made, args, (1, shape, Crafted(kind, state), False, bytes(range(8)))

    torch.save({"model_state_dict": weights(), "curve": Array()}, tmp_path / "w.pt")
    if shape == (1,) and kind == "f8":
        assert load_checkpoint(tmp_path / "w.pt")["curve"].dtype.flags == 0
    else:
        with pytest.raises(UserError, match="w.pt: corrupted"):
            load_checkpoint(tmp_path / "w.pt")


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
