"""report.py's pages in a real browser: they open without error, fit, sort, filter, and answer the pointer."""

import numpy as np
import pytest
import torch

from modules.attribution import ShownClip
from reporting import comparison_page, run_page
from reporting.comparison.opening import rows_to_show as rows_of_two
from reporting.pairing import pair_tests
from reporting.run_folder import read_run
from reporting.sections.strips import rows_to_show
from tests.browser.browser import DESKTOP, PHONE, watched_page, wcag_faults
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
    clips = {
        row: ShownClip(torch.randint(256, (16, 3, 32, 32), dtype=torch.uint8), torch.randn(16))
        for row in rows_to_show(run.main_test)
    }
    write_text_atomic(root / "run.html", run_page(run, run.main_test, clips))
    pair = pair_tests(run, other, None)
    clips = dict.fromkeys(rows_of_two(pair), next(iter(clips.values())))
    write_text_atomic(root / "pair.html", comparison_page(run, other, pair, clips))
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


@pytest.mark.parametrize("name", ["run", "pair"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_meets_wcag_aa(browser, pages, name, size, dark):
    """With all details open."""
    with watched_page(browser, pages / f"{name}.html", size, dark=dark) as watched:
        watched.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
        assert wcag_faults(watched.page, "best-practice") == []


def test_the_summary_is_visible_without_scrolling(browser, pages):
    """The result in a sentence, and a correct and a wrong video."""
    with watched_page(browser, pages / "run.html", DESKTOP) as watched:
        assert "videos right" in watched.page.locator("h1").inner_text()
        strips = watched.page.locator("header figure")
        assert strips.count() == 2
        for strip in strips.all():
            box = strip.bounding_box()
            assert box["y"] + box["height"] <= DESKTOP[1]


def test_on_a_phone_a_row_is_a_card_with_its_columns_names(browser, pages):
    with watched_page(browser, pages / "run.html", PHONE) as watched:
        page = watched.page
        for section in ("scores", "classes"):
            row = page.locator(f"#{section} table.sortable tbody tr").first
            for cell in row.locator("td").all():
                box = cell.bounding_box()
                assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE[0]
                label = cell.evaluate("(c) => getComputedStyle(c, '::before').content")
                assert label == f'"{cell.get_attribute("data-label")}"' != '""'
        of_several = "[...document.querySelectorAll('td > code')].filter((c) => c.parentNode.childNodes.length > 1)"
        assert page.locator("#recipe td code").count() > 1 and page.evaluate(f"{of_several}.length") == 0
        page.locator("#classes-table th:nth-child(2) button").click()  # long tables can be sorted there too
        shares = [float(text) for text in first_cells(page, "classes-table", 2)]
        assert shares == sorted(shares, reverse=True)


def test_a_click_on_a_heading_sorts(opened):
    page = opened.page
    heading = page.locator("#classes-table th:nth-child(2)")
    shares = [float(text) for text in first_cells(page, "classes-table", 2)]
    assert shares == sorted(shares)  # the worst class is on top
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
    field = page.locator("#classes").get_by_label("Filter by name")
    field.fill("NUMBER 1")
    shown = first_cells(page, "classes-table")
    assert shown and all("number 1" in name or "number 1" in taken for name, taken in zip(
        shown, first_cells(page, "classes-table", 7)
    ))  # fmt: skip
    assert page.locator("output[data-counts=classes-table]").inner_text() == f"{len(shown)} of {NUM_CLASSES} rows"
    field.fill(NASTY[0])
    assert NASTY[0] in first_cells(page, "classes-table")
    field.fill("")
    assert page.locator("output[data-counts=classes-table]").inner_text() == f"{NUM_CLASSES} rows"


def painted(page, canvas: str) -> int:
    """Number of different colours on a canvas."""
    return page.evaluate(
        "(id) => { const c = document.getElementById(id), d = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        "return new Set(new Uint32Array(d.data.buffer)).size }",
        canvas,
    )


def test_the_confusion_matrix_answers_pointer_keys_and_filter(opened):
    page, says = opened.page, opened.page.locator("#matrix-says")
    canvas = page.locator("#matrix-canvas")
    assert painted(page, "matrix-canvas") > 10
    canvas.scroll_into_view_if_needed()
    size = canvas.bounding_box()
    assert size["width"] == pytest.approx(page.locator("#matrix").bounding_box()["width"], abs=2)  # it fills its box
    corner = {"x": size["width"] - 8, "y": size["height"] - 8}  # the last cell of the diagonal
    canvas.hover(position=corner)
    name, rest = says.inner_text().split(", predicted as ")
    assert rest.startswith(f"{name}: ") and rest.endswith("%)")
    canvas.press("ArrowLeft")
    assert says.inner_text().startswith(f"{name}, predicted as ") and f"predicted as {name}:" not in says.inner_text()
    canvas.press("ArrowRight")
    assert says.inner_text() == f"{name}, predicted as {rest}"
    page.locator("#matrix-filter").fill("action number 17")
    assert painted(page, "matrix-canvas") > 2
    page.locator("#matrix-filter").fill("no such class")
    assert painted(page, "matrix-canvas") <= 3
    page.locator("#matrix-filter").fill("")
    page.locator("#matrix-view").select_option("listed")
    canvas.hover(position=corner)
    assert says.inner_text().startswith(
        f"action number {NUM_CLASSES - 1}, predicted as action number {NUM_CLASSES - 1}: "
    )


@pytest.mark.parametrize("has_touch", [False, True], ids=["keys", "touch"])
def test_clusters_of_classes_open_by_keys_and_by_touch(browser, page_of_400, has_touch):
    """400 classes are shown as 16 clusters, each of which can be opened."""
    context = browser.new_context(viewport=dict(zip(("width", "height"), PHONE)), has_touch=has_touch)
    page = context.new_page()
    page.goto(page_of_400.as_uri())
    canvas, says, open_button = (page.locator(f"#matrix-{name}") for name in ("canvas", "says", "open"))
    assert page.locator("#matrix-view").input_value() == "clusters" and open_button.is_hidden()
    canvas.scroll_into_view_if_needed()
    if has_touch:
        size = canvas.bounding_box()
        canvas.tap(position={"x": size["width"] - 5, "y": size["height"] - 5})
        assert "predicted as their own class" in says.inner_text()
        open_button.tap()
    else:
        canvas.press("ArrowDown")  # the first cell
        assert "predicted as their own class" in says.inner_text()
        canvas.press("Enter")
    assert page.locator("#matrix-back").is_visible() and open_button.is_hidden()
    canvas.press("ArrowDown")
    assert says.inner_text().startswith("action number") and " + " not in says.inner_text()
    canvas.press("Escape")
    assert page.locator("#matrix-back").is_hidden()
    context.close()


def test_the_map_names_the_point_under_the_pointer(opened):
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
    canvas.focus()
    steps = set()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp", "ArrowRight"):
        page.keyboard.press(key)
        steps.add(page.locator("#map-says").inner_text())
    assert len(steps) > 2 and all(".mp4: " in said or said.startswith("text of ") for said in steps)
    picture = canvas.screenshot()
    page.locator("#map-kind").select_option("PCA")
    assert canvas.screenshot() != picture
    picture = canvas.screenshot()
    page.locator("#map-filter").fill(NASTY[3])
    assert canvas.screenshot() != picture


def test_the_page_is_complete_without_javascript(pages, browser):
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
        page.locator("#classes").get_by_label("Filter by name").fill("number 39")
        assert "of 400 rows" in page.locator("output[data-counts=classes-table]").inner_text()
        assert "action number 399" in first_cells(page, "classes-table")
        assert painted(page, "matrix-canvas") > 10 and painted(page, "map-canvas") > 30
        page.locator("#matrix-filter").fill("number 39")
        assert painted(page, "matrix-canvas") > 2
        assert (watched.errors, watched.outside, watched.overflow()) == ([], [], 0)


@pytest.fixture(scope="module")
def page_of_400(tmp_path_factory):
    root = tmp_path_factory.mktemp("large")
    run = read_run(write_run(root / "run", num_videos=1200, num_classes=400, spread=3.0))
    write_text_atomic(root / "run.html", run_page(run, run.main_test, "left out"))
    return root / "run.html"
