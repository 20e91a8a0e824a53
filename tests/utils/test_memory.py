import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from utils.memory import to_device

PROGRAM = """
import resource, sys
import numpy as np
from utils.memory import keep_freed_memory, return_freed_memory

def use():
    arrays = [np.ones(2**21, np.uint8) for _ in range(8)]

if sys.argv[1] != "default":
    keep_freed_memory()
use(), use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
if sys.argv[1] == "returned":
    return_freed_memory()
use(), use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_kept_memory_is_not_zeroed_again():
    faults = {}
    for how in ("default", "kept", "returned"):
        command = [sys.executable, "-c", PROGRAM, how]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)  # pages that were cleared
    assert faults["kept"] < 100 < faults["returned"] < faults["default"], faults


class FakeTensor:
    """Records the calls that `to_device` makes."""

    def __init__(self, device: str):
        self.device, self.calls = torch.device(device), []

    def pin_memory(self):
        self.calls.append("pin_memory")
        return self

    def to(self, device, non_blocking):
        self.calls.append((str(device), non_blocking))
        return self


@pytest.mark.parametrize(
    ("source", "target", "pins"), [("cpu", "cuda:0", True), ("cpu", "cpu", False), ("cuda:0", "cuda:0", False)]
)
def test_copies_to_a_gpu_come_from_pinned_memory(source, target, pins):
    tensor = FakeTensor(source)
    to_device(tensor, torch.device(target))  # type: ignore[arg-type]
    assert tensor.calls == ["pin_memory"] * pins + [(target, True)]
