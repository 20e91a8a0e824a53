"""The page of app.py in a real browser: a sample, typed classes, bad files, two users at once, phone and desktop."""

import http.client
import os
import re
import socket
import subprocess
import sys
from contextlib import suppress

import pytest
from PIL import Image

from tests.browser.browser import DESKTOP, PHONE, watched_page, wcag_faults
from tests.commands.world import REPO
from tests.datasets.helpers import write_video

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("gradio", reason="gradio is not installed; it is for app.py only")

RESULT = ".result .verdict"
IN_SIGHT = """() => {
  const { top } = document.querySelector(".result .verdict").getBoundingClientRect();
  return top >= 0 && top < innerHeight;
}"""
"""A phone scrolls to the result."""
OPAQUE = """() => {
  for (let e = document.querySelector(".result"); e; e = e.parentElement)
    if (getComputedStyle(e).opacity !== "1") return false;
  return true;
}"""
"""Gradio fades a result in; its colours are judged when it has."""


@pytest.fixture(scope="module")
def address(browser):
    """Of the server with the embedded CLIP; `browser` first, so that nothing starts if there is none."""
    server = subprocess.Popen(
        [sys.executable, "app.py", "--config", "configs/shapes/transf.yaml", "--classes", "a circle, a star, a cross",
         "--port", "0", "--allow_host", "lab.example"],
        cwd=REPO, env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines = []
    for line in server.stdout:
        lines.append(line)
        if found := re.match(r"open (http://127\.0\.0\.1:\d+)", line):
            break
    else:
        pytest.fail("".join(lines))
    yield found[1]
    server.terminate()
    server.wait(timeout=20)


def visit(browser, address, size=DESKTOP):
    return watched_page(browser, address, size, server=address)


def choose_sample(page, name):
    page.locator(".samples").get_by_role("button", name=name, exact=True).click()
    page.locator("#video video").wait_for()


def press(page):
    page.get_by_role("button", name="Classify").click()


def choose_classes(page, names):
    """Replace the class names."""
    page.locator("#classes").get_by_label("Remove all").or_(page.locator("#classes .remove-all")).first.click()
    box = page.locator("#classes input")
    for name in names:
        box.fill(name)
        box.press("Enter")


def upload(page, path):
    page.locator("#video input[type=file]").set_input_files(path)


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_sample_has_its_name(browser, address, size):
    with visit(browser, address, size) as watched:
        watched.page.get_by_text("A toy model: it only knows moving shapes.").wait_for()
        choose_sample(watched.page, "a star moving up")  # one click is enough
        watched.page.locator(RESULT).wait_for()
        assert watched.page.locator(RESULT).inner_text() == "a star"
        watched.page.wait_for_function(IN_SIGHT)
        assert watched.page.locator(".result .bar").count() == 3 and watched.page.locator(".result img").count() == 16
        watched.page.get_by_text("This session").wait_for()
        assert watched.page.get_by_text("star_moving_up").count() == 1  # of the history
        with watched.page.expect_download() as saved:  # drawn when it is used
            watched.page.get_by_role("button", name="Save as picture").click()
        with Image.open(saved.value.path()) as picture:
            assert picture.format == "PNG" and picture.width == 1500 and len(picture.getcolors(1 << 24)) > 1000
        assert (watched.errors, watched.outside, watched.overflow()) == ([], [], 0)


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_button_and_result_are_near_the_video(browser, address, size):
    """The button is on the first screen of a desktop; a phone shows the result before the settings."""
    with visit(browser, address, size) as watched:
        choose_sample(watched.page, "a star moving up")
        watched.page.locator(RESULT).wait_for()
        button, result, classes = (
            watched.page.locator(where).bounding_box()["y"] for where in ("#watch button.primary", RESULT, "#classes")
        )
        assert result < classes if size == PHONE else button < DESKTOP[1]


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_meets_wcag_aa(browser, address, size, dark):
    with watched_page(browser, address, size, dark=dark, server=address) as watched:
        choose_sample(watched.page, "a star moving up")
        watched.page.locator(RESULT).wait_for()
        watched.page.wait_for_function(OPAQUE)
        assert wcag_faults(watched.page) == []


def test_typed_classes_and_a_timeline(browser, address):
    with visit(browser, address) as watched:
        page = watched.page
        choose_sample(page, "a circle moving left")
        page.locator(RESULT).wait_for()
        choose_classes(page, ["<b>square</b>", "a circle, round"])
        page.get_by_label("Window length (seconds)").fill("0.5")
        press(page)
        page.locator(".result .band button").first.wait_for()
        page.locator(".result .band button").last.click()
        page.wait_for_function("document.querySelector('#video video').currentTime > 0")
        assert sorted(page.locator(".result .bar span:first-child").all_inner_texts()) == [
            "<b>square</b>", "a circle, round",
        ]  # fmt: skip
        assert (watched.errors, watched.outside) == ([], [])


def test_bad_files_give_a_message_and_the_server_keeps_running(browser, address, tmp_path):
    (tmp_path / "notes.mp4").write_text("no video\n" * 50)
    with visit(browser, address) as watched:
        page = watched.page
        press(page)
        page.get_by_text("Add a video first").wait_for()
        upload(page, tmp_path / "notes.mp4")
        page.get_by_text("This browser cannot play the video").wait_for()
        press(page)
        message = page.get_by_text("is corrupted or not a video")
        message.wait_for()
        assert message.inner_text().startswith("notes.mp4: ")
        page.get_by_label("Window length (seconds)").fill("-1")
        press(page)
        page.get_by_text("Window length must be between 0 and 86400 seconds.").wait_for()
        assert page.locator(RESULT).count() == 0 and page.locator("#alert").is_hidden()
        (tmp_path / "list.csv").write_text("no,columns\n")
        page.locator("#settings input[type=file]").set_input_files(tmp_path / "list.csv")
        page.locator("#alert").wait_for()  # Gradio's own message would vanish
        assert page.locator("#alert").inner_text().startswith("list.csv:1: ")
        assert page.locator(".toast-body").is_hidden()
    with visit(browser, address) as watched:
        choose_sample(watched.page, "a star moving up")
        watched.page.locator(RESULT).wait_for()


def test_a_sample_clicked_before_gradio_is_ready_is_classified_later(browser, address):
    with visit(browser, address) as watched:
        watched.page.locator("#sample-0").wait_for(state="attached")
        watched.page.evaluate("window.button = document.querySelector('#sample-0'); window.around = button.parentNode")
        watched.page.evaluate("button.remove()")
        watched.page.locator(".samples button").first.click()
        assert watched.page.locator(RESULT).count() == 0
        watched.page.evaluate("around.append(button)")
        watched.page.locator(RESULT).wait_for()
        assert watched.errors == []


def test_the_result_is_cleared_with_its_video_and_everything_works_by_keyboard(browser, address, tmp_path):
    write_video(tmp_path / "other.mp4", 20, size=(64, 64))
    with visit(browser, address) as watched:
        page = watched.page
        for _ in range(4):  # on a busy machine, a key may come before Gradio listens
            page.locator(".samples button").first.focus()
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            with suppress(sync_api.TimeoutError):
                page.locator(RESULT).wait_for(timeout=8000)
                break
        assert page.locator(RESULT).inner_text() == "a star"
        page.get_by_label("Window length (seconds)").fill("0.5")
        page.get_by_role("button", name="Classify").focus()
        page.keyboard.press("Enter")
        page.locator(".result .band button").last.press("Enter")
        page.wait_for_function("document.querySelector('#video video').currentTime > 0")
        page.locator("#video").get_by_label("Clear").click()
        page.locator(".result.empty").wait_for()
        upload(page, tmp_path / "other.mp4")
        press(page)
        page.locator(RESULT).wait_for()
        page.locator("#video").get_by_label("Clear").click()
        page.locator(".result.empty").wait_for()
        assert page.locator(RESULT).count() == 0 and page.get_by_text("other.mp4").count() == 1  # in the history
        assert (watched.errors, watched.outside) == ([], [])


def test_sets_of_classes_a_list_and_the_threshold(browser, address, tmp_path):
    (tmp_path / "mine.csv").write_text("id,name\n0,a star\n1,a horse\n")
    with visit(browser, address) as watched:
        page, chips = watched.page, watched.page.locator("#classes .token")
        choose_sample(page, "a star moving up")
        page.locator(RESULT).wait_for()  # a second request of the session would be refused before
        page.get_by_label("UCF101").check()
        page.wait_for_function("document.querySelectorAll('#classes .token').length === 101")
        page.locator("#settings input[type=file]").set_input_files(tmp_path / "mine.csv")
        page.wait_for_function("document.querySelectorAll('#classes .token').length === 2")
        assert chips.all_inner_texts() == ["a star", "a horse"]
        page.get_by_role("button", name="Run again").click()
        page.wait_for_function("document.querySelectorAll('.result .bar').length === 2")
        assert page.locator(RESULT).inner_text() == "a star"
        page.locator("#settings").get_by_role("slider").press("End")
        page.get_by_role("button", name="Run again").click()
        page.get_by_text("unknown: no class is likely enough").wait_for()
        assert (watched.errors, watched.outside) == ([], [])


def test_a_video_from_the_camera(browser, address):
    with visit(browser, address) as watched:
        page = watched.page
        page.get_by_label("Capture from camera").click()
        page.get_by_text("Click to Access Webcam").click()
        button = page.locator("#video .button-wrap > button").first
        button.click()
        page.wait_for_timeout(2500)  # of recorded time
        button.click()
        page.get_by_test_id("Video-player").wait_for()  # `#video video` may still be the camera's picture
        press(page)
        page.locator(RESULT).wait_for()
        assert watched.outside == []


@pytest.mark.parametrize("calm", [False, True], ids=["plays", "still"])
def test_thumbnails_respect_prefers_reduced_motion(browser, address, calm):
    with watched_page(browser, address, calm=calm, server=address) as watched:
        watched.page.locator(".samples img").first.wait_for()
        source = watched.page.locator(".samples img").first.evaluate("(image) => image.currentSrc")
        assert source.startswith("data:image/jpeg" if calm else "data:image/webp")


def test_two_users_at_once(browser, address):
    with visit(browser, address) as first, visit(browser, address) as second:
        for watched, sample, classes in (
            (first, "a circle moving left", ["a circle", "a cat"]),
            (second, "a star moving up", ["a star", "a dog"]),
        ):
            choose_sample(watched.page, sample)
            watched.page.locator(RESULT).wait_for()
            choose_classes(watched.page, classes)
        for watched in (first, second):
            press(watched.page)
        for watched, name in ((first, "a circle"), (second, "a star")):
            watched.page.locator(RESULT).wait_for()
            assert watched.page.locator(RESULT).inner_text() == name
            assert watched.errors == []


def test_names_of_other_hosts_are_refused(address):
    """Under its own host name, another site cannot read the page (DNS rebinding)."""
    for host, status in (("localhost", 200), ("127.0.0.1", 200), ("lab.example", 200), ("evil.example", 400)):
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
        connection.request("GET", "/", headers={"Host": host})
        assert connection.getresponse().status == status, host
        connection.close()


def test_an_aborted_upload_blocks_nobody(address):
    port = int(address.rpartition(":")[2])
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n--x\r\n".encode())
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n0123\r\n--x--\r\n'
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert b" 200 " in connection.recv(100)
