"""How the C library keeps memory, and small tensors that go to a device."""

import ctypes
import sys

import torch

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt, in glibc's malloc.h
_KEPT_BYTES, _LARGEST_BLOCK = 2**27, 2**25  # glibc takes no larger block


def keep_freed_memory() -> None:
    """Have this process keep memory that it frees, up to 128 MiB, for what comes next (glibc; no effect elsewhere).

    By default glibc may hand a clip's memory back to the system, which clears it page by page for the next clip.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on `device`, for which nothing waits: a copy of unpinned memory may wait for all work of a GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
