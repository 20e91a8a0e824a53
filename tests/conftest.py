"""Fixtures that several rooms' tests share."""

import pytest

from tests.stories.world import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))
