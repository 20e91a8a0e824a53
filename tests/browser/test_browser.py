"""The recording of a page's errors and requests."""

from tests.browser.browser import PHONE, watched_page


def test_console_errors_exceptions_and_external_requests_are_recorded(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<div style='width:500px'>wide</div><img src='http://example.invalid/x.png'>"
        "<script>console.error('first'); console.log('no error'); throw new Error('second')</script>"
    )
    with watched_page(browser, page, PHONE) as watched:
        watched.page.wait_for_load_state("networkidle")
        assert any("first" in e for e in watched.errors) and any("second" in e for e in watched.errors)
        assert not any("no error" in e for e in watched.errors)
        assert watched.outside == ["http://example.invalid/x.png"]
        assert watched.overflow() > 0


def test_a_clean_page_has_no_errors(browser, tmp_path):
    page = tmp_path / "good.html"
    page.write_text("<!doctype html><title>t</title><p>fine")
    with watched_page(browser, page, PHONE) as watched:
        assert (watched.errors, watched.outside, watched.overflow()) == ([], [], 0)
