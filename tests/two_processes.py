"""Runs a function in two processes of one group."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def in_two_processes(function: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """The results of `function(rank, *arguments)` of two processes with one thread each, connected by gloo.

    `function` is defined at the top of a module; its results are passed in files in `folder`, by torch.save.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_run, (port, function, folder, arguments), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def _run(rank: int, port: int, function: Callable[..., Any], folder: Path, arguments: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(function(rank, *arguments), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
