"""Chromium, driven by Playwright, for the tests of pages. It can only reach servers that the test allows."""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

PHONE, DESKTOP = (390, 844), (1280, 800)
"""Widths and heights in CSS pixels."""

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera
    "--use-fake-ui-for-media-stream",
)


def chromium_path() -> str | None:
    """The browser's program, None if there is none."""
    return next(
        (found for name in ("/usr/bin/chromium", "chromium", "google-chrome") if (found := shutil.which(name))), None
    )


def missing() -> str | None:
    """The reason why a browser cannot be started, or None."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (pip install playwright)"
    return None if chromium_path() else "chromium is not installed (apt-get install chromium)"


@contextmanager
def open_browser() -> Iterator:
    """A headless Chromium (playwright's `Browser`); skips the test if the browser or playwright is missing."""
    if reason := missing():
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    # In a folder of its own, because libraries of the system leave files there, such as PulseAudio.
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, "TMPDIR": folder}
        browser = playwright.chromium.launch(
            executable_path=chromium_path(), headless=True, args=list(_FLAGS), env=environment
        )
        try:
            yield browser
        finally:
            browser.close()


class Watched(NamedTuple):
    """A page, and what went wrong on it so far.

    Attributes:
        page: playwright's `Page`.
        errors: console errors and uncaught exceptions, one text each.
        outside: addresses that it asked for and that were refused, for being neither local files nor named by the test.
    """

    page: object
    errors: list[str]
    outside: list[str]

    def overflow(self) -> int:
        """CSS pixels by which the document is wider than the window; 0 if it fits."""
        root = "document.documentElement"
        return self.page.evaluate(f"{root}.scrollWidth - {root}.clientWidth")


@contextmanager
def watched_page(
    browser, address: str | Path, size: tuple[int, int] = DESKTOP, *, dark: bool = False, calm: bool = False,
    server: str | None = None,
) -> Iterator[Watched]:  # fmt: skip
    """Open a page.

    Args:
        browser: of `open_browser`.
        address: path of an HTML file, or an address that starts with `server`.
        size: width and height of the window in CSS pixels.
        dark, calm: whether the user prefers dark colours, and reduced motion.
        server: start of the addresses that may be asked for, as http://127.0.0.1:7860; all else on the network is
            refused, and noted.
    """
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce" if calm else "no-preference",
    )
    try:
        errors: list[str] = []
        outside: list[str] = []

        def pass_or_refuse(route) -> None:
            url = route.request.url
            if url.startswith(("file:", "data:", "blob:")) or (server and url.startswith(server)):
                route.continue_()
            else:
                outside.append(url)
                route.abort()

        context.route("**/*", pass_or_refuse)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address.resolve().as_uri() if isinstance(address, Path) else address)
        yield Watched(page, errors, outside)
    finally:
        context.close()


def wcag_faults(page, *others: str) -> list[tuple[str, str, str]]:
    """Violations of WCAG 2.0 to 2.2, levels A and AA, by axe-core: rule, element and what is wrong with it.

    Skips the test where axe is not installed. `others`: further tags of rules.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", *others]
    found = axe.Axe().run(page, options={"runOnly": {"type": "tag", "values": rules}}).response
    assert len(found["passes"]) > 15
    return [(v["id"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"]) for v in found["violations"]]
