"""A temporary folder for the test run, which is removed at its end. Files that tests or commands leave in it are a
failure.

A plugin of pytest, loaded by conftest.py. The commands and xdist's workers inherit TMPDIR. pytest's own folder of
`tmp_path` is beside it, unless `--basetemp` names one to keep.
"""

import os
import shutil
import tempfile
from multiprocessing.util import Finalize
from pathlib import Path

import pytest

LEFT_BY_LIBRARIES = (
    ".ses",  # onnxruntime, in each process
    "torchinductor_*",  # torch's cache of compiled code
    "pymp-*",  # multiprocessing, until the process ends
    "torchelastic_*",  # torchrun, if a signal ends it before it cleans up
    "*wandb-media",  # wandb, in a process that ends without Python's exit handlers, such as xdist's workers
    "*wandb-artifacts",
)
"""Patterns of names that libraries leave, which tests cannot prevent."""

_FOLDER = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)  # before pytest reads its basetemp
def pytest_configure(config) -> None:
    if hasattr(config, "workerinput"):
        return  # a worker of xdist, in the folder of the process that started it
    folder = config.stash[_FOLDER] = Path(tempfile.mkdtemp(prefix="tests-"))
    if config.option.basetemp is None:
        config.option.basetemp = str(folder / "pytest")
    os.environ["TMPDIR"] = str(folder / "tmp")
    (folder / "tmp").mkdir()
    tempfile.tempdir = None  # read TMPDIR again


@pytest.hookimpl(wrapper=True)  # after xdist has ended its workers
def pytest_sessionfinish(session):
    result = yield
    if _FOLDER in session.config.stash:
        found = (session.config.stash[_FOLDER] / "tmp").iterdir()
        left = sorted(path.name for path in found if not any(path.match(pattern) for pattern in LEFT_BY_LIBRARIES))
        if left:
            reporter = session.config.pluginmanager.get_plugin("terminalreporter")
            reporter.ensure_newline()
            reporter.write_line(f"ERROR: the tests left in the temporary folder: {' '.join(left)}", red=True)
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
    return result


def pytest_unconfigure(config) -> None:
    if _FOLDER in config.stash:
        # When the process ends, multiprocessing removes its own subfolder with a finalizer of priority -100.
        Finalize(None, shutil.rmtree, args=(config.stash[_FOLDER],), exitpriority=-200)
