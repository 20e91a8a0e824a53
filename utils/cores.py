"""How many processor cores this process may use."""

import os


def num_cores() -> int:
    """Cores that this process may use: a scheduler or container may give it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
