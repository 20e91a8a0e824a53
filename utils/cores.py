"""Number of CPU cores that this process may use."""

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def num_cores() -> int:
    """CPU cores for this process, at least 1: those that the scheduler and the CPU quotas of its control groups (such
    as a container's) allow, divided by the number of processes that torchrun started on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas()])) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _quotas() -> Iterator[float]:
    """CPU quotas, in cores, of this process's control groups (versions 1 and 2) and their parents."""
    lines = _OWN_CGROUPS.read_text(encoding="utf-8").splitlines() if _OWN_CGROUPS.is_file() else ()
    for line in lines:
        _, controllers, group = line.split(":", 2)  # of cgroups(7)
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = _CGROUPS / ("cpu" if controllers else "") / group.lstrip("/")
        for place in (folder, *folder.parents):
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            if all((place / name).is_file() for name in names):
                quota, period = " ".join((place / name).read_text(encoding="utf-8") for name in names).split()
                if quota not in ("max", "-1"):
                    yield int(quota) / int(period)
