"""report.py's pages in a real browser: they open without error, fit, sort, filter, and answer the pointer."""

import numpy as np
import pytest

from reporting.comparison import comparison_page, pair_tests
from reporting.run_folder import read_run
from reporting.sections import rows_to_show, run_page
from reporting.strips import Clip
from tests.browser.browser import DESKTOP, PHONE, watched_page
from tests.reporting.report_runs import NASTY, write_run
from utils.files import write_text_atomic

NUM_CLASSES = 32


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    run, other = (
        read_run(write_run(root / name, num_videos=400, num_classes=NUM_CLASSES, seed=seed, spread=3.0))
        for seed, name in enumerate(("a run", "another"))
    )
    rng = np.random.default_rng(0)
    clips = {
        row: Clip(rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8), rng.standard_normal(16).astype(np.float32))
        for row in rows_to_show(run.main_test)
    }
    write_text_atomic(root / "run.html", run_page(run, run.main_test, clips))
    write_text_atomic(root / "pair.html", comparison_page(run, other, pair_tests(run, other, None)))
    return root


@pytest.fixture
def opened(browser, pages):
    with watched_page(browser, pages / "run.html") as watched:
        yield watched
        assert (watched.errors, watched.outside) == ([], [])


def first_cells(page, table: str, column: int = 1) -> list[str]:
    """A column of the rows that are shown, from the top."""
    return page.locator(f"#{table} tbody tr:visible > :nth-child({column})").all_inner_texts()


@pytest.mark.parametrize("name", ["run", "pair"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_opens_without_error_and_fits_the_window(browser, pages, name, size, dark):
    with watched_page(browser, pages / f"{name}.html", size, dark=dark) as watched:
        watched.page.wait_for_load_state("networkidle")
        assert (watched.errors, watched.outside, watched.overflow()) == ([], [], 0)
        background = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(v) for v in background.strip("rgb()").split(",")) < 200) == dark
        missing = watched.page.evaluate("[...document.images].filter((i) => !i.naturalWidth).length")
        assert missing == 0


@pytest.mark.parametrize("section", ["scores", "classes"])
def test_scores_are_on_the_screen_of_a_phone(browser, pages, section):
    with watched_page(browser, pages / "run.html", PHONE) as watched:
        cell = watched.page.locator(f"#{section} table.sortable tbody tr").first.locator(":nth-child(2)").first
        box = cell.bounding_box()
        assert float(cell.inner_text().split()[0]) <= 100 and box["x"] + box["width"] <= PHONE[0]


def test_a_click_on_a_heading_sorts(opened):
    page = opened.page
    heading = page.locator("#classes-table th:nth-child(2)")
    heading.locator("button").click()
    shares = [float(text) for text in first_cells(page, "classes-table", 2)]
    assert len(shares) == NUM_CLASSES and shares == sorted(shares, reverse=True) and shares[0] > shares[-1]
    assert heading.get_attribute("aria-sort") == "descending"
    heading.locator("button").click()
    assert [float(text) for text in first_cells(page, "classes-table", 2)] == shares[::-1]
    assert heading.get_attribute("aria-sort") == "ascending"
    page.locator("#classes-table th:nth-child(1) button").click()
    names = [name for name in first_cells(page, "classes-table") if name.startswith("action")]
    assert names == [f"action number {i}" for i in range(len(NASTY), NUM_CLASSES)]  # 9 before 10
    assert heading.get_attribute("aria-sort") is None


def test_a_field_filters_rows(opened):
    page = opened.page
    field = page.get_by_label("Filter by name").first
    field.fill("NUMBER 1")
    shown = first_cells(page, "classes-table")
    assert shown and all("number 1" in name or "number 1" in taken for name, taken in zip(
        shown, first_cells(page, "classes-table", 7)
    ))  # fmt: skip
    assert page.locator("output[data-counts=classes-table]").inner_text() == f"rows: {len(shown)} of {NUM_CLASSES}"
    field.fill(NASTY[0])
    assert NASTY[0] in first_cells(page, "classes-table")
    field.fill("")
    assert page.locator("output[data-counts=classes-table]").inner_text() == f"rows: {NUM_CLASSES}"


def painted(page, canvas: str) -> int:
    """Different colours on a canvas."""
    return page.evaluate(
        "(id) => { const c = document.getElementById(id), d = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        "return new Set(new Uint32Array(d.data.buffer)).size }",
        canvas,
    )


def test_the_confusion_matrix_answers_zooms_and_filters(opened):
    page, says = opened.page, opened.page.locator("#matrix-says")
    canvas = page.locator("#matrix-canvas")
    assert painted(page, "matrix-canvas") > 10
    canvas.scroll_into_view_if_needed()
    size = canvas.bounding_box()
    canvas.hover(position={"x": size["width"] - 8, "y": size["height"] - 8})  # the last cell of the diagonal
    name, rest = says.inner_text().split(", called ")
    assert rest.startswith(f"{name}: ") and rest.endswith("%)")
    page.locator("#matrix-in").click()
    assert page.evaluate("document.getElementById('matrix-room').clientWidth") > size["width"]
    page.evaluate("document.getElementById('matrix').scrollTo(1e6, 1e6)")
    page.wait_for_timeout(100)
    grown = canvas.bounding_box()
    canvas.hover(position={"x": grown["width"] - 12, "y": grown["height"] - 12})
    assert says.inner_text().startswith(f"{name}, called {name}: ")
    page.locator("#matrix-filter").fill("action number 17")
    assert 0 < page.evaluate("document.getElementById('matrix-room').clientWidth") < 900
    page.locator("#matrix-filter").fill("no such class")
    assert painted(page, "matrix-canvas") <= 2
    page.locator("#matrix-filter").fill("")
    page.locator("#matrix-order").select_option("listed")
    page.locator("#matrix-fit").click()
    edge = size["width"] - 8
    canvas.hover(position={"x": edge, "y": edge})
    assert says.inner_text().startswith(f"action number {NUM_CLASSES - 1}, called action number {NUM_CLASSES - 1}: ")


def test_the_map_names_what_is_pointed_at(opened):
    page = opened.page
    canvas = page.locator("#map-canvas")
    canvas.scroll_into_view_if_needed()
    before = painted(page, "map-canvas")
    assert before > 30
    found = set()
    size = canvas.bounding_box()
    for x in np.linspace(20, size["width"] - 20, 30):
        canvas.hover(position={"x": float(x), "y": size["height"] / 2})
        found.add(page.locator("#map-says").inner_text())
    assert any(".mp4: " in said for said in found), found
    picture = canvas.screenshot()
    page.locator("#map-kind").select_option("PCA")
    assert canvas.screenshot() != picture
    picture = canvas.screenshot()
    page.locator("#map-filter").fill(NASTY[3])
    assert canvas.screenshot() != picture


def test_the_page_says_all_without_a_script(pages, browser):
    """Tables, charts and strips are in the page itself."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((pages / "run.html").as_uri())
    assert page.locator("#classes-table tbody tr").count() == NUM_CLASSES
    assert page.locator("svg.chart").count() == 5 and page.locator("figure img").count() > 6
    context.close()


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_page_of_400_classes_works(browser, page_of_400, size):
    with watched_page(browser, page_of_400, size) as watched:
        page = watched.page
        watched.page.wait_for_load_state("networkidle")
        assert watched.overflow() == 0 and page.locator("#classes-table tbody tr").count() == 400
        page.get_by_label("Filter by name").first.fill("number 39")
        assert "rows: " in page.locator("output[data-counts=classes-table]").inner_text()
        assert "action number 399" in first_cells(page, "classes-table")
        assert painted(page, "matrix-canvas") > 10 and painted(page, "map-canvas") > 30
        page.locator("#matrix-filter").fill("number 39")
        page.locator("#matrix-in").click()
        assert painted(page, "matrix-canvas") > 2
        assert (watched.errors, watched.outside, watched.overflow()) == ([], [], 0)


@pytest.fixture(scope="module")
def page_of_400(tmp_path_factory):
    root = tmp_path_factory.mktemp("large")
    run = read_run(write_run(root / "run", num_videos=1200, num_classes=400, spread=3.0))
    write_text_atomic(root / "run.html", run_page(run, run.main_test, "left out"))
    return root / "run.html"
