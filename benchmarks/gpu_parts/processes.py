"""Training in a process group of one: NCCL's kernels and PyTorch's wrappers, without a second GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch.cuda import nccl

from benchmarks.gpu_parts.equality import FP32, compare, describe, plain_steps, prepare
from benchmarks.gpu_parts.part import Figures, Found, Setting, expect
from benchmarks.gpu_parts.training import train_steps, video_clip
from modules.build_training import data_parallel


@contextmanager
def group_of_one(device: str) -> Iterator[str]:
    """The backend's name, with a process group around this process alone."""
    backend = "nccl" if device == "cuda" else "gloo"
    store = dist.TCPStore("127.0.0.1", 0, 1, is_master=True)  # as torchrun's; port 0: any that is free
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        yield backend
    finally:
        dist.destroy_process_group()


def data_parallel_step(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Three steps in DistributedDataParallel as of several processes, and each collective that commands use."""
    with group_of_one(setting.device) as backend:
        numbers = torch.arange(4.0, device=setting.device)
        dist.all_reduce(numbers)
        expect(numbers.tolist() == [0, 1, 2, 3], f"all_reduce over one process gave {numbers.tolist()}")
        gathered: list[Any] = [None]
        box = [{"a": 1}]
        dist.gather_object({"b": 2}, gathered)
        dist.broadcast_object_list(box)
        expect(gathered == [{"b": 2}] and box == [{"a": 1}], f"objects came back as {gathered} and {box}")
        cfg, trainer = prepare(setting, "fp32")
        trainer.model = data_parallel(video_clip(trainer), trainer.context.device, has_one_pass=True)
        figures = compare(train_steps(trainer, cfg), plain_steps(setting, setting.device, "fp32"), FP32)
    version = ".".join(map(str, nccl.version())) if backend == "nccl" else ""
    return Found(f"DDP on {backend} {version}: {describe(figures)}".replace(" :", ":"), figures)


def sharded(setting: Setting, earlier: dict[str, Figures]) -> Found:
    """Three steps with sharded weights, gradients and optimiser, where this version has them."""
    with group_of_one(setting.device) as backend:
        cfg, trainer = prepare(setting, "fp32", "solver.shard=full")
        figures = compare(train_steps(trainer, cfg), plain_steps(setting, setting.device, "fp32"), FP32)
    return Found(f"solver.shard=full on {backend}: {describe(figures)}", figures)
