"""Fixtures that several rooms' tests share."""

import signal

import pytest

from tests.commands.world import World, make_world
from utils.stop import SIGNALS

pytest_plugins = ["tests.strict_skips", "tests.temporary_folder"]


@pytest.fixture(autouse=True)
def signal_handlers():
    """Stories that are called in this process catch signals; the next test must not inherit that."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))
