"""Number of cores of this process, from its affinity, the quotas of its control groups, and torchrun's processes."""

import os

import pytest

from utils import cores


@pytest.mark.parametrize(
    ("affinity", "own", "files", "processes", "expected"),
    [
        (8, "0::/\n", {}, None, 8),
        (8, "0::/\n", {"cpu.max": "max 100000\n"}, None, 8),
        (8, "0::/\n", {"cpu.max": "350000 100000\n"}, None, 3),
        (2, "0::/\n", {"cpu.max": "350000 100000\n"}, None, 2),
        (8, "0::/\n", {"cpu.max": "20000 100000\n"}, None, 1),
        (8, "0::/a/b\n", {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "max 100000\n"}, None, 4),
        (8, "1:name=systemd:/x\n2:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "200000\n",
                                                      "cpu/x/cpu.cfs_period_us": "100000\n"}, None, 2),
        (8, "2:cpuset,cpu:/x\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, 8),
        (8, None, {}, "2", 4),
        (8, "0::/\n", {"cpu.max": "600000 100000\n"}, "4", 1),
        (2, "0::/\n", {}, "4", 1),
    ],
)  # fmt: skip
def test_cores_follow_affinity_quota_and_processes(tmp_path, monkeypatch, affinity, own, files, processes, expected):
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    if own is not None:
        (tmp_path / "own").write_text(own)
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if processes:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert cores.num_cores() == expected
