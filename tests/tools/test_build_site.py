"""The site of the documentation builds without warnings or broken links, and makes no requests to other servers."""

import ast
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.browser.browser import DESKTOP, PHONE, open_browser, watched_page, wcag_faults
from tools import build_site
from utils.errors import UserError
from utils.project_paths import REPOSITORY


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "site"
    assert build_site.main(build_site.parse_arguments([str(folder)])) == 0
    return folder


def test_pages_and_reference_exist(site):
    assert "best_model.pt" in (site / "docs" / "training.html").read_text(encoding="utf-8")
    reference = (site / "reference" / "inference.html").read_text(encoding="utf-8")
    assert "load_model" in reference and "Load a video recognition model." in reference
    assert "data.num_segments" in (site / "docs" / "config.html").read_text(encoding="utf-8")
    assert "load_model" in (site / "search" / "search_index.json").read_text(encoding="utf-8")


def test_every_public_function_has_a_docstring():
    """The reference omits functions without one. A command in tools/ is described by its module and --help."""
    missing = []
    for package in build_site.PACKAGES:
        of_command = ("main", "parse_arguments") if package == "tools" else ()
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            missing += [
                f"{path}:{node.lineno} {node.name}"
                for node in ast.parse(path.read_text(encoding="utf-8")).body
                if isinstance(node, ast.FunctionDef) and not ast.get_docstring(node)
                if not node.name.startswith("_") and node.name not in of_command
            ]
    assert missing == []


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):  # noqa: A002
        pass


def test_it_can_be_read_and_searched_in_a_browser(site):
    """On a phone, in dark mode, and by keyboard; without a request to another server."""
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server,
        open_browser() as browser,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        for name, size, dark in (
            ("index", PHONE, False), ("docs/methods", PHONE, True), ("docs/methods", DESKTOP, False),
            ("reference/clip", PHONE, False),
        ):  # fmt: skip
            with watched_page(browser, f"{address}/{name}.html", size, dark=dark, server=address) as watched:
                watched.page.wait_for_load_state("networkidle")
                assert (watched.errors, watched.outside, watched.overflow()) == ([], [], 0), name
                assert wcag_faults(watched.page) == [], name
        with watched_page(browser, f"{address}/index.html", server=address) as watched:
            page = watched.page
            page.wait_for_load_state("networkidle")
            page.keyboard.press("/")
            page.keyboard.type("load_model")
            page.locator(".md-search-result__link").first.wait_for()
            page.keyboard.press("Enter")
            page.wait_for_url("**/reference/inference.html**")
        server.shutdown()


def test_a_page_loads_nothing_from_other_servers(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=.?(https?://[^\"'> ]+)", page)
    loaded += re.findall(r"<link[^>]* rel=.?stylesheet[^>]* href=.?(https?://[^\"'> ]+)", page)
    assert loaded == []


def test_a_broken_link_is_an_error(tmp_path, monkeypatch, capfd):
    gather = build_site.gather

    def with_a_wrong_link(source):
        gather(source)
        (source / "CHANGELOG.md").write_text("# Changes\n\n[gone](docs/gone.md)\n")
        for package in build_site.PACKAGES:  # quick
            (source / "reference" / f"{package}.md").write_text(f"# {package}\n")

    monkeypatch.setattr(build_site, "gather", with_a_wrong_link)
    with pytest.raises(UserError, match="the site was not built"):
        build_site.main(build_site.parse_arguments([str(tmp_path / "site")]))
    assert "docs/gone.md" in capfd.readouterr().err


def test_another_folder_is_not_modified(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(UserError, match="not an earlier build"):
        build_site.main(build_site.parse_arguments([str(tmp_path)]))
    assert (tmp_path / "thesis.tex").exists()
