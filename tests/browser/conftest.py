"""The browser, shared by the tests of a file."""

import pytest

from tests.browser.browser import open_browser


@pytest.fixture(scope="module")  # not longer: playwright's event loop, while it runs, is in the way of other tests' own
def browser():
    with open_browser() as opened:
        yield opened
