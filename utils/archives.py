"""Rejects files (.pt, .npz) that would take far more memory than they have data, before it is allocated."""

import math
import zipfile
from pathlib import Path

import numpy as np
import torch

from utils.errors import UserError

MAX_RATIO = 16  # declared bytes per byte of the file: weights and embeddings hardly compress
ALWAYS_READ = 64 << 20  # bytes, whatever the ratio


def check_archive_sizes(path: str | Path) -> bool:
    """Compare the sizes that a zip archive declares, and the shapes of arrays in it, with the size of the file.

    Returns whether it is an uncompressed zip archive. A corrupted or truncated one passes; reading it raises a proper
    error. Raises a UserError if the declared size is too large for the file.
    """
    size, declared, is_stored = Path(path).stat().st_size, 0, True
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                declared += max(member.file_size, _array_bytes(archive, member))
                is_stored &= member.compress_type == zipfile.ZIP_STORED
    except Exception:  # noqa: BLE001 - zipfile and NumPy's parser raise anything on arbitrary bytes; see above
        return False
    if declared > max(ALWAYS_READ, MAX_RATIO * size):
        raise UserError(
            f"{path}: unpacks to {declared >> 20} MiB from a file of {size} bytes and is not loaded; use another copy"
        )
    return is_stored


def repeats_stored_values(tensor: torch.Tensor) -> bool:
    """Whether a tensor is larger than its data in the file: with zero strides a few bytes can have any shape."""
    is_dense = tensor.layout == torch.strided
    return is_dense and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _array_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Bytes that NumPy would allocate for an .npy member, from its header; 0 for other members."""
    if not member.filename.endswith(".npy"):
        return 0
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return math.prod(shape) * dtype.itemsize
