"""How commands end: one line for an error of the system or of a path, with closed streams too."""

import errno
import os
import subprocess
import sys

import pytest

from tests.commands.world import REPO
from utils.cli import EXIT_FAILURE, EXIT_USER_ERROR, explain_failure


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "change its mode or owner, or that of a folder above it"),
        (errno.EPERM, "change its mode or owner, or that of a folder above it"),
        (errno.ENAMETOOLONG, "give a shorter path"),
        (errno.ELOOP, "correct the links"),
    ],
)
def test_a_path_that_cannot_be_opened_is_a_mistake_of_the_user(number, remedy):
    code, line = explain_failure(OSError(number, os.strerror(number), "a/b"))
    assert code == EXIT_USER_ERROR and line == f"a/b: {os.strerror(number)}; {remedy}"


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (OSError(errno.EFBIG, "File too large", "a"), "a: File too large; raise the limit on the size of files"),
        (OSError(errno.EMFILE, "Too many open files", "a"), "raise the limit on open files (ulimit -n)"),
        (MemoryError(), "out of memory; lower data.batch_size"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "raise the limit (ulimit -v)"),
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "['/tmp']; free disk space there"),
    ],
)
def test_a_limit_of_the_system_is_one_line(error, part):
    code, line = explain_failure(error)
    assert code == EXIT_FAILURE and line and part in line


def test_other_errors_of_the_system_are_bugs():
    assert explain_failure(FileNotFoundError(2, "No such file or directory", "a")) == (EXIT_FAILURE, None)


@pytest.mark.parametrize(("closed", "code"), [((0,), 0), ((1,), 0), ((0, 1, 2), 0)])
def test_closed_streams_do_not_fail_a_command(closed, code):
    def close():
        for descriptor in closed:
            os.close(descriptor)

    words = [sys.executable, "-m", "tools.show_config", "--config", "configs/shapes/transf.yaml", "--key", "seed"]
    done = subprocess.run(words, cwd=REPO, capture_output=True, preexec_fn=close)  # noqa: PLW1509
    assert (done.returncode, done.stderr) == (code, b"")
