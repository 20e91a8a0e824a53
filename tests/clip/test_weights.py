"""Weights files that are corrupted, foreign or malicious: an error names them, and their code never runs."""

import errno
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clip.weights import read_weights
from tests.clip.tiny import make_clip, save_archive
from utils.errors import UserError


class Bomb:
    """Creates a file when unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return save_archive(tmp_path_factory.mktemp("archive") / "clip.pt", make_clip())


def test_missing_and_empty(tmp_path):
    with pytest.raises(UserError, match="absent.pt: no such weights file"):
        read_weights(tmp_path / "absent.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(UserError, match=r"empty.pt: corrupted"):
        read_weights(tmp_path / "empty.pt")
    torch.save({}, tmp_path / "none.pt")
    with pytest.raises(UserError, match="none.pt: no state dict, .* it contains nothing"):
        read_weights(tmp_path / "none.pt")


def test_safetensors_that_may_not_be_read_are_not_called_corrupted(tmp_path, monkeypatch):
    save_file({"w": torch.rand(4)}, tmp_path / "w.safetensors")

    def refuse(path, *arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.97])
def test_truncated(tmp_path, archive, share):
    torch.save({"w": torch.rand(4000)}, tmp_path / "state.pt")
    save_file({"w": torch.rand(4000)}, tmp_path / "w.safetensors")
    for path in (tmp_path / "state.pt", tmp_path / "w.safetensors", archive):
        whole = path.read_bytes()
        cut = tmp_path / f"cut{path.suffix}"
        cut.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(UserError) as error:
            read_weights(cut)
        assert str(cut) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_pickle_is_refused_without_running_it(tmp_path, legacy):
    mark = tmp_path / "exploded"
    path = tmp_path / "bomb.pt"
    torch.save({"w": torch.zeros(1), "b": Bomb(mark)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match="besides tensors and plain values"):
        read_weights(path)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(UserError):
        read_weights(tmp_path / "plain.pt")
    assert not mark.exists()


def test_malicious_code_in_a_torchscript_archive(tmp_path, archive):
    mark, path = tmp_path / "exploded", tmp_path / "bomb.pt"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            if member.filename.endswith("/data.pkl"):
                content = pickle.dumps(Bomb(mark), protocol=2)
            new.writestr(member.filename, content)
    with pytest.raises(UserError, match=r"bomb.pt: contains \S+, which is not a tensor and is not loaded"):
        read_weights(path)
    assert not mark.exists()


def test_an_archive_that_decompresses_to_far_more_than_its_size(tmp_path):
    path = tmp_path / "zip_bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("a/data.pkl", bytes(80 << 20))
    with pytest.raises(UserError, match="unpacks to far more"):
        read_weights(path)


def test_a_tensor_that_claims_more_than_the_file_holds(tmp_path):
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="tensor w has shape .* but less data"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ([torch.zeros(1)], "contains a list"),
        ({"w": 3}, "no state dict"),
        ({"epoch": 1, "model_state_dict": {"visual.proj": torch.zeros(1)}}, "is a video checkpoint"),
        ({"w": torch.zeros(1), "fusion_model.w": torch.zeros(1)}, "is a video checkpoint"),
        ({"state_dict": {"vision_model.w": torch.zeros(1)}}, "the parameter names of Hugging Face's transformers"),
    ],
)
def test_files_without_weights(tmp_path, content, part):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match=part):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("prefix", ["", "model.", "module._orig_mod."])
@pytest.mark.parametrize("container", ["model_state_dict", "state_dict", "model"])
def test_containers_and_prefixes(tmp_path, container, prefix):
    state = make_clip().state_dict()
    torch.save({container: {prefix + name: value for name, value in state.items()}, "epoch": 3}, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt").tensors.keys() == state.keys()


def test_only_tensors_of_an_archive_are_read(archive):
    file = read_weights(archive)
    assert file.is_openai and set(file.tensors) == set(make_clip().state_dict())
    assert {v.dtype for v in file.tensors.values()} == {torch.float32}


def test_text_for_weights(tmp_path):
    for content in (b"<html>not found</html>", b"{}" * 40):
        (tmp_path / "w.pt").write_bytes(content)
        with pytest.raises(UserError, match="w.pt: (corrupted|not a|is a)"):
            read_weights(tmp_path / "w.pt")
