"""A short form of the fault injection; the full one is `python -m tests.faults.injection` (benchmarks/RESULTS.md)."""

import re
import sys

from tests.commands.world import command


def test_kills_at_random_moments_change_nothing():
    result = command(sys.executable, "-m", "tests.faults.injection", "--kills", "3", "--terms", "3", "--seed", "1")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert re.search(r"fault injection: 3 SIGKILL .* 3 SIGTERM .* equal to the undisturbed", result.stdout)
