"""Set-up of one or more processes from torchrun's environment, and collective operations."""

import datetime
import os
import signal
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist

from utils.errors import UserError
from utils.stop import end_with_parent

T = TypeVar("T")


class Process(NamedTuple):
    """One of `world_size` processes. `device` is its GPU, or the CPU."""

    rank: int
    world_size: int
    local_rank: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def start(timeout_minutes: float = 10) -> Process:
    """Join torchrun's process group, or run as a single process without torchrun.

    Uses NCCL if each process has its own GPU, and gloo on CPUs. Raises a UserError if torchrun started more processes
    on this machine than it has GPUs, its variables are inconsistent, or the group cannot be formed.
    """
    rank, world_size, local_rank = _read_environment()
    use_cuda = torch.cuda.is_available()
    if use_cuda and local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {rank} needs GPU {local_rank}, but this machine has {torch.cuda.device_count()}; start at most "
            "one process per GPU (NPROC)"
        )
    device = torch.device("cuda", local_rank) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(device)
    if world_size > 1:
        end_with_parent(signal.SIGTERM)  # do not keep running if the launcher is killed
        try:
            _join_group("nccl" if use_cuda else "gloo", datetime.timedelta(minutes=timeout_minutes))
        except (RuntimeError, ValueError) as error:
            address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise UserError(f"process {rank} of {world_size} could not join the group at {address}: {error}") from error
    return Process(rank, world_size, local_rank, device)


def _read_environment() -> tuple[int, int, int]:
    """RANK, WORLD_SIZE and LOCAL_RANK, by default those of a single process. Raises a UserError if they are not numbers
    of a process in a group, or the group's other variables are missing."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    rank, world_size, local_rank = (os.environ.get(name, default) for name, default in zip(names, "010"))
    is_valid = all(map(str.isdecimal, (rank, world_size, local_rank))) and int(rank) < int(world_size)
    of_group = ("RANK", "MASTER_ADDR", "MASTER_PORT") if is_valid and int(world_size) > 1 else ()
    missing = [name for name in of_group if name not in os.environ]
    if not is_valid or missing:
        found = " ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
        lacking = f" without {', '.join(missing)}" if missing else ""
        raise UserError(
            f"environment: {found}{lacking} is not that of a process of torchrun; unset these variables, or start "
            "several processes with scripts/run_train.sh"
        )
    return int(rank), int(world_size), int(local_rank)


def _join_group(backend: str, timeout: datetime.timedelta) -> None:
    """Join the group through torchrun's store, which keeps the addresses of earlier attempts after a restart."""
    store, rank, world_size = next(dist.rendezvous("env://", timeout=timeout))
    store = dist.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)


# Kept alive: if gloo's thread has the last reference to a tensor, it needs the GIL to free it, and up to PyTorch 2.7
# destroying the group waits for that thread while holding the GIL.
_last_sent: torch.Tensor | None = None


def stop() -> None:
    """Leave the process group after a barrier: if a process exits while the main process saves, torchrun kills it."""
    if dist.is_initialized():
        global _last_sent
        _last_sent = torch.zeros(1, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(_last_sent)
        dist.destroy_process_group()


def is_restart() -> bool:
    """Whether torchrun restarted the processes after a failure (`--max_restarts`)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def gather_to_main(item: T, process: Process) -> list[T] | None:
    """The `item` (picklable) of each process in order of rank on the main process, None on the others."""
    if process.world_size == 1:
        return [item]
    items: list[Any] | None = [None] * process.world_size if process.is_main else None
    dist.gather_object(item, items)
    return items


def gather_to_all(item: T, process: Process) -> list[T]:
    """The `item` (picklable) of each process in order of rank, on every process."""
    gathered = share_from_main(gather_to_main(item, process), process)
    assert gathered is not None
    return gathered


def share_from_main(item: T, process: Process) -> T:
    """The main process's `item` (picklable) on every process."""
    if process.world_size == 1:
        return item
    box = [item]
    dist.broadcast_object_list(box)
    return box[0]


def sum_over_processes(values: torch.Tensor, process: Process) -> torch.Tensor:
    """The elementwise sum of `values` over all processes, on each of them."""
    if process.world_size > 1:
        dist.all_reduce(values)
    return values


def any_process(flag: bool, process: Process) -> bool:
    """Whether `flag` is true on any process (a collective operation)."""
    return bool(sum_over_processes(torch.tensor(int(flag), device=process.device), process))
