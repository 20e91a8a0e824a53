"""A short form of `python -m tests.faults.failing_calls`, which fails every file-system call in turn."""

import shutil
import sys

import pytest

from tests.commands.world import command


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("gcc"), reason="needs Linux and gcc, to preload a shim")
@pytest.mark.timeout(600)
def test_a_failing_call_is_a_one_line_error_and_leaves_no_bad_file():
    words = [sys.executable, "-m", "tests.faults.failing_calls", "--cases", "1", "--seed", "1"]
    result = command(*words, timeout=600)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    assert ", 0 wrong;" in result.stdout
