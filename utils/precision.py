"""Precision of a run: fp32, bf16, or fp16 with loss scaling."""

import logging
from contextlib import AbstractContextManager, nullcontext

import torch

from utils.errors import UserError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
log = logging.getLogger(__name__)


def resolve_precision(name: str, device: torch.device) -> str:
    """Resolve `auto` to bf16 on a GPU that supports it, otherwise fp16, and fp32 on a CPU; `amp` to fp16 or fp32.
    Raises a UserError for fp16 on a CPU, which does not support loss scaling."""
    if name == "auto":
        if device.type == "cpu":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if name == "amp":
        if device.type == "cpu":
            log.warning("warning: solver.precision amp needs a GPU; using fp32 on this CPU")
        return "fp32" if device.type == "cpu" else "fp16"
    if name == "fp16" and device.type == "cpu":
        raise UserError("solver.precision: fp16 needs a GPU; use bf16 or fp32 on a CPU")
    return name


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Autocast context manager for the forward pass; weights stay float32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])
