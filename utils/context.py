"""Context shared by all parts of a run: process, precision and stop request."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from utils.distributed import Process
from utils.precision import autocast


@dataclass(frozen=True)
class RunContext:
    """One process of a run, its precision, and whether it received a request to stop."""

    process: Process = field(default_factory=lambda: Process(0, 1, 0, torch.device("cpu")))
    precision: str = "fp32"  # or bf16, fp16
    stop_requested: Callable[[], bool] = lambda: False  # by a signal for example

    @property
    def device(self) -> torch.device:
        return self.process.device

    def autocast(self) -> AbstractContextManager:
        """Autocast context manager for the forward pass; weights stay float32."""
        return autocast(self.precision, self.device)
