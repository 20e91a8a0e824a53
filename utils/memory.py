"""Memory settings of the C library, and copies to a device."""

import ctypes
import sys

import torch

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt, in glibc's malloc.h
_KEPT_BYTES, _LARGEST_BLOCK = 2**27, 2**25  # the largest value that glibc accepts


def keep_freed_memory() -> None:
    """Keep up to 128 MiB of freed memory in the process for reuse (glibc only).

    By default glibc may return the memory of a clip to the system, which zeroes it page by page for the next clip.
    Fragmentation lets the kept memory grow slowly: call `return_freed_memory` from time to time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def return_freed_memory() -> None:
    """Return all freed memory of the process to the system (glibc only)."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if malloc_trim is not None:
        malloc_trim(0)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to `device` asynchronously; copies from unpinned memory may wait for all work of a GPU."""
    pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
    return pinned.to(device, non_blocking=True)
