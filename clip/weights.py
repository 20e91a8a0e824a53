"""Reads tensors from weights files without running code in them.

Formats are detected by content: safetensors; TorchScript archives (OpenAI's released files), read by an unpickler that
only supports tensors and plain containers; and all others with `utils.checkpoint`, as video checkpoints.
"""

import io
import logging
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from utils.archives import repeats_stored_values
from utils.checkpoint import read_torch_file, weights_of, without_prefixes
from utils.errors import UserError, first_line

# Attributes of OpenAI's TorchScript modules that are not weights.
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
VIDEO_KEYS = {"fusion_model_state_dict", "content_hash"}  # in checkpoints of contrastive runs, and in ours
MAX_SOURCE_BYTES = 64 << 20
MAX_MODULES, MAX_DEPTH = 100_000, 64  # well above any network, and below what a malicious file could request
STORAGE_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
log = logging.getLogger(__name__)


class WeightsFile(NamedTuple):
    """The contents of a weights file."""

    tensors: dict[str, torch.Tensor]  # by name; floating-point ones are float32
    is_openai: bool  # certainly in OpenAI's layout: a TorchScript archive, or with its extra keys


def read_weights(path: str | Path) -> WeightsFile:
    """The tensors of a weights file, by name, on the CPU; floating-point ones are converted to float32.

    Containers and prefixes of names are those of video checkpoints, see `utils.checkpoint.weights_of`. Raises a
    UserError if the file is missing, corrupted, of an unknown kind or a video checkpoint, or contains no weights, or
    values that could run code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    is_script = False
    if _is_safetensors(path):
        tensors = _read_safetensors(path)
    elif _is_torchscript(path):
        tensors, is_script = _read_torchscript(path), True
    else:
        tensors = _read_torch(path)
    if not tensors:
        raise UserError(f"{path}: contains no weights")
    tensors = without_prefixes(tensors)
    check_not_transformers(tensors, path)
    is_openai = is_script or any(name in tensors for name in NOT_WEIGHTS[:3])
    kept = {}
    for name, value in tensors.items():
        if name.rpartition(".")[2] in NOT_WEIGHTS:
            continue
        if repeats_stored_values(value):
            raise UserError(f"{path}: tensor {name} has shape {tuple(value.shape)} but less data in the file")
        kept[name] = value.float() if value.is_floating_point() else value
    return WeightsFile(kept, is_openai)


def _is_safetensors(path: Path) -> bool:
    """A safetensors file starts with the length of its JSON header (8 bytes) and the header."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size


def _is_torchscript(path: Path) -> bool:
    """Whether the names in the archive's directory are those of a TorchScript archive; nothing else is read."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return False  # torch.load raises a proper error
    return any(re.fullmatch(r"[^/]+/(constants\.pkl|code/.*)", name) for name in names)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    path.open("rb").close()  # safetensors reports a file that may not be read as missing
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _corrupted(path, "safetensors file", error) from error


def _corrupted(path: Path, kind: str, error: Exception) -> UserError:
    return UserError(f"{path}: corrupted or truncated {kind} ({first_line(error)}); use another copy")


def _read_torch(path: Path) -> dict[str, torch.Tensor]:
    content = read_torch_file(path)
    tensors = weights_of(content, path)
    is_video = not VIDEO_KEYS.isdisjoint(content) or any(name.startswith("fusion_model.") for name in tensors)
    if is_video or ("model_state_dict" in content and all(name.startswith(("visual.", "logit_")) for name in tensors)):
        raise UserError(f"{path}: is a video checkpoint, not CLIP weights; use it as `pretrain` or --weights")
    return tensors


def check_not_transformers(tensors: dict[str, torch.Tensor], source: str | Path) -> None:
    """Raise a UserError if the tensors have the names of CLIP in Hugging Face's transformers."""
    if any(name.startswith(("vision_model.", "text_model.")) for name in tensors):
        raise UserError(
            f"{source}: uses the parameter names of Hugging Face's transformers (vision_model.*), which are not "
            "supported; use a checkpoint with the names of OpenAI or open_clip"
        )


def _read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    try:
        with zipfile.ZipFile(path) as archive:
            # PyTorch only compresses the sources; an archive that unpacks to far more than its size is malicious.
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size + MAX_SOURCE_BYTES:
                raise UserError(f"{path}: unpacks to far more than its size and is not loaded")
            root = next(n for n in archive.namelist() if n.endswith(("/constants.pkl", "/data.pkl"))).split("/")[0]
            unpickler, Module = _module_unpickler(archive, root)
            top = unpickler.load()
            if not isinstance(top, Module):
                raise UserError(f"{path}: a TorchScript archive without a module")
            return _tensors_of(top, Module, _declared_tensors(archive, root))
    except UserError as error:
        raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except Exception as error:  # the unpickler raises nearly anything for corrupted data
        raise _corrupted(path, "TorchScript archive", error) from error


def _module_unpickler(archive: zipfile.ZipFile, root: str) -> tuple[pickle.Unpickler, type]:
    """An unpickler of data.pkl that only creates modules (as plain records), tensors and containers.

    Everything that a pickle may refer to is created again for each file, so that files cannot affect each other.
    """

    class Module:
        """Attributes of a script module; there is a subclass for each of its classes."""

        kind = ""  # qualified name of the class

        def __setstate__(self, state: dict[str, Any]) -> None:
            self.attributes = state

    def rebuild(storage: torch.Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> torch.Tensor:
        last = offset + sum((n - 1) * s for n, s in zip(size, stride))
        is_empty = 0 in size
        if min((offset, *size, *stride)) < 0 or (not is_empty and last >= storage.numel()):
            raise UserError(f"a tensor of shape {tuple(size)} reaches outside its storage")
        return storage.as_strided(size, stride, offset)

    storages: dict[str, torch.Tensor] = {}
    known: dict[tuple[str, str], Any] = {
        ("torch._utils", "_rebuild_tensor_v2"): rebuild,
        ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        ("collections", "OrderedDict"): dict,
    }
    for kind in ("intlist", "doublelist", "boollist", "tensorlist"):
        known["torch.jit._pickle", f"build_{kind}"] = list
    for name in STORAGE_DTYPES:
        known["torch", name] = name

    class TensorUnpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module.split(".")[0] == "__torch__":
                return type(name, (Module,), {"kind": f"{module}.{name}"})
            if (module, name) not in known:
                raise UserError(f"contains {module}.{name}, which is not a tensor and is not loaded")
            return known[module, name]

        def persistent_load(self, item: tuple) -> torch.Tensor:
            _, storage_type, key, _, _ = item
            if key not in storages:
                dtype = STORAGE_DTYPES[storage_type]
                content = bytearray(archive.read(f"{root}/data/{key}"))
                storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            return storages[key]

    return TensorUnpickler(io.BytesIO(archive.read(f"{root}/data.pkl"))), Module


def _declared_tensors(archive: zipfile.ZipFile, root: str) -> dict[str, set[str]]:
    """Parameters and buffers that each script class declares, read as text from the archive's sources.

    A script module has other tensors too (plain attributes), which a state dict leaves out.
    """
    declared = {}
    for member in archive.namelist():
        if not (member.startswith(f"{root}/code/") and member.endswith(".py")):
            continue
        module = member.removeprefix(f"{root}/code/").removesuffix(".py").replace("/", ".")
        source = archive.read(member).decode("utf-8")
        for name, body in re.findall(r"^class (\w+)\(Module\):\n(.*?)(?=^class |\Z)", source, re.M | re.S):
            lists = re.findall(r"^  __(?:parameters|buffers)__ = \[(.*?)\]", body, re.M)
            declared[f"{module}.{name}"] = {item for text in lists for item in re.findall(r'"([^"]+)"', text)}
    return declared


def _tensors_of(top: Any, Module: type, declared: dict[str, set[str]]) -> dict[str, torch.Tensor]:
    """Parameters and buffers of a record of script modules, under their dotted names."""
    tensors = {}
    waiting = [("", top)]
    num_modules = 0
    while waiting:
        prefix, module = waiting.pop()
        num_modules += 1
        if num_modules > MAX_MODULES or prefix.count(".") > MAX_DEPTH:
            raise UserError("modules are nested too deeply; use another copy")
        for name, value in module.attributes.items():
            if isinstance(value, Module):
                waiting.append((f"{prefix}{name}.", value))
            elif isinstance(value, torch.Tensor) and name in declared.get(module.kind, {name}):
                tensors[f"{prefix}{name}"] = value
    return tensors
