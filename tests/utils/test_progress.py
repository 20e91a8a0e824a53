"""A bar on a terminal, plain lines in a log, and no output for short tasks."""

import itertools
import re
import sys

import pytest

from utils import progress as module
from utils.progress import progress


@pytest.fixture
def shown(monkeypatch, capsys):
    """A function that returns the stderr of three steps, with a line after each step if it is not a terminal."""

    def run(is_terminal: bool, **named) -> str:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
        assert list(progress("abc", desc="reading", unit="video", **named)) == list("abc")
        return capsys.readouterr().err

    monkeypatch.setattr(module, "SECONDS", 0)
    return run


def test_a_log_gets_lines_with_speed_and_time_left(shown):
    printed = shown(False)
    assert not re.search(r"[\r\033]", printed) and printed.endswith("\n")
    last = printed.splitlines()[-1]
    assert re.fullmatch(r"reading 3 of 3, +[\d.]+video/s, 00:00 left", last), printed


def test_a_terminal_gets_a_bar(shown):
    assert re.search(r"\rreading: 100%.*3/3 \[00:00<00:00, .*video/s\]", shown(True))
    assert "\r" not in shown(True, plain=True) and "3 of 3" in shown(True, plain=True)


def test_it_can_be_left_out(shown, monkeypatch):
    assert shown(True, disable=True) == shown(False, disable=True) == shown(False, lines=False) == ""
    monkeypatch.setattr(module, "SECONDS", 60)
    assert shown(False) == ""  # done before the first line


def test_speed_and_time_left_do_not_depend_on_the_clock_of_the_system(monkeypatch, capsys):
    """It may be set while the work goes on."""
    seconds = itertools.count(step=70)
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    monkeypatch.setattr("time.time", lambda: -1e6)
    with progress(total=10, unit="video") as bar:
        for _ in range(9):
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 8 and all(re.search(r"[\d.]+s/video, \d+:\d\d left", line) for line in lines), lines
