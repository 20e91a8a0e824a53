"""Number of CPU cores that this process may use."""

import os


def num_cores() -> int:
    """CPU cores available to this process, which a scheduler or container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
