"""Fixtures shared by the tests of several folders."""

import logging
import signal
from pathlib import Path

import pytest

from tests.commands.world import World, call, make_world
from utils.stop import SIGNALS

pytest_plugins = ["tests.strict_skips", "tests.temporary_folder"]


@pytest.fixture(autouse=True)
def signal_handlers():
    """Entry scripts that run in this process install signal handlers; the next test must not inherit them."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def log_handlers():
    """Entry scripts that run in this process log to files of the test, whose folder is removed after it."""
    logger = logging.getLogger()
    before = list(logger.handlers)
    yield
    for handler in [each for each in logger.handlers if each not in before]:
        logger.removeHandler(handler)
        handler.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def weights(world, tmp_path_factory) -> Path:
    """The last checkpoint of a run of the world's config, which tests leave as it is."""
    folder = tmp_path_factory.mktemp("trained")
    assert call("train", "--config", world.config, f"logging.run_dir={folder}") == 0
    return folder / "last_model.pt"
