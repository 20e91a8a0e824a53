"""Two machines, as network namespaces of this one: run_train_multinodes.sh trains, one is cut off, both start again."""

import os
import shutil
import subprocess
import sys
import time
import uuid

import pytest

from tests.commands.world import REPO, call, losses
from tests.faults.live_runs import ON_CPU
from utils.checkpoint import load_checkpoint

TIMEOUT_MINUTES = 0.25


def ip(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", *words], capture_output=True, text=True)


def reason_against() -> str | None:
    """The reason why namespaces cannot be created, or None."""
    if shutil.which("ip") is None:
        return "the command ip (iproute2) is not installed"
    name = f"try{uuid.uuid4().hex[:6]}"
    made = ip("netns", "add", name)
    ip("netns", "delete", name)
    return None if made.returncode == 0 else f"network namespaces are not permitted: {made.stderr.strip()}"


class Machines:
    """Two namespaces joined by a cable, each with its address."""

    def __init__(self):
        tag = uuid.uuid4().hex[:5]
        self.names = [f"clip{tag}n{i}" for i in range(2)]
        self.links = [f"v{tag}{i}" for i in range(2)]
        self.addresses = ["10.77.0.1", "10.77.0.2"]

    def build(self) -> None:
        for name in self.names:
            self._do("netns", "add", name)
        self._do("link", "add", self.links[0], "type", "veth", "peer", "name", self.links[1])
        for name, link, address in zip(self.names, self.links, self.addresses):
            self._do("link", "set", link, "netns", name)
            self._do("-n", name, "addr", "add", f"{address}/24", "dev", link)
            self._do("-n", name, "link", "set", link, "up")
            self._do("-n", name, "link", "set", "lo", "up")

    @staticmethod
    def _do(*words: str) -> None:
        result = ip(*words)
        if result.returncode != 0:
            pytest.skip(f"network namespaces cannot be joined here: ip {' '.join(words)}: {result.stderr.strip()}")

    def cut(self, which: int) -> None:
        self._do("-n", self.names[which], "link", "set", self.links[which], "down")

    def join(self, which: int) -> None:
        self._do("-n", self.names[which], "link", "set", self.links[which], "up")

    def start(self, which: int, config, *words) -> subprocess.Popen:
        launcher = ["sh", "scripts/run_train_multinodes.sh", str(config), str(which), *words]
        environment = {**os.environ, **ON_CPU, "PYTHON": sys.executable, "GLOO_SOCKET_IFNAME": self.links[which]}
        environment |= {"MASTER_ADDR": self.addresses[0], "MASTER_PORT": "29631", "NNODES": "2", "NPROC": "1"}
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[which], *launcher],
            cwd=REPO,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def remove(self) -> None:
        for name in self.names:
            for pid in ip("netns", "pids", name).stdout.split():
                subprocess.run(["kill", "-9", pid])
            ip("netns", "delete", name)


@pytest.fixture
def machines():
    reason = reason_against()
    if reason:
        pytest.skip(reason)
    machines = Machines()
    try:
        machines.build()
        yield machines
    finally:
        machines.remove()


@pytest.mark.timeout(900)  # four starts of PyTorch, two of them beside each other
def test_a_disconnected_machine_is_detected_and_both_resume(world, machines, tmp_path):
    words = (f"logging.run_dir={tmp_path / 'run'}", "data.batch_size=1", "solver.epochs=12", "solver.save_every=5",
             f"solver.process_timeout_minutes={TIMEOUT_MINUTES}", "resume=auto", "logging.eval_freq=12")  # fmt: skip
    metrics = tmp_path / "run" / "metrics.jsonl"
    nodes = [machines.start(which, world.config, *words) for which in range(2)]
    started = time.monotonic()
    while not metrics.exists() or metrics.read_text().count("\n") < 12:
        assert time.monotonic() - started < 120 and nodes[0].poll() is None, nodes[0].stderr.read()
        time.sleep(0.05)
    machines.cut(1)
    cut_at = time.monotonic()
    errors = [node.communicate(timeout=120)[1] for node in nodes]
    # The configured time, and some for the launcher to end.
    assert time.monotonic() - cut_at < 60 * TIMEOUT_MINUTES + 45
    assert [node.returncode for node in nodes] == [1, 1]
    assert "lost the connection to another process" in errors[0], errors[0]
    before = load_checkpoint(tmp_path / "run" / "last_model.pt")["progress"]["step"]
    assert before >= 5
    machines.join(1)
    nodes = [machines.start(which, world.config, *words) for which in range(2)]
    errors = [node.communicate(timeout=240)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"step {before}" in log and "resumed from" in log
    assert call("train", "--config", world.config, *words, f"logging.run_dir={tmp_path / 'alone'}",
                "data.batch_size=2") == 0  # fmt: skip
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "alone"), rel=1e-3, abs=1e-4)
