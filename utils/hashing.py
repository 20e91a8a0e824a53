"""SHA-256 hashes of files and nested data."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):  # hashlib.file_digest needs Python 3.11
            digest.update(block)
    return digest.hexdigest()


def content_hash(tree: Any) -> str:
    """SHA-256 of a tree of dicts, lists, tuples, tensors and plain values, in hex.

    Independent of the file format, the order of dict keys and the device of tensors.
    """
    digest = hashlib.sha256()
    _feed(digest, tree)
    return digest.hexdigest()


def _feed(digest: Any, item: Any) -> None:
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu().contiguous()
        digest.update(f"tensor {item.dtype} {tuple(item.shape)}".encode())
        digest.update(memoryview(item.reshape(-1).view(torch.uint8).numpy()))
    elif isinstance(item, np.ndarray):
        digest.update(f"array {item.dtype} {item.shape}".encode())
        digest.update(np.ascontiguousarray(item).tobytes())
    elif isinstance(item, dict):
        digest.update(f"dict {len(item)}".encode())
        for name in sorted(item, key=repr):
            digest.update(repr(name).encode())
            _feed(digest, item[name])
    elif isinstance(item, (list, tuple)):
        digest.update(f"sequence {len(item)}".encode())
        for value in item:
            _feed(digest, value)
    else:
        digest.update(f"{type(item).__name__} {item!r}".encode())
