"""Output that differs between a terminal and a file."""

import io
import os
import pty
import subprocess
import sys

import pytest

from tests.commands.world import REPO
from utils.results import format_table
from utils.terminal import coloured

COMMAND = [sys.executable, "test.py", "--weights", "missing.pt"]
ESCAPE = "\033["


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def a_terminal_with_colours(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("error: a.txt: not found", "error:"),
        ("error (process 1): a.txt: not found", "error (process 1):"),
        ("WARNING: the disk is full", "WARNING:"),
        ("warning: data.workers: 9", "warning:"),
    ],
)
def test_only_the_label_is_coloured(line, label, monkeypatch):
    shown = coloured(line, Terminal())
    colour = "31" if "error" in label else "33"
    assert shown == f"{ESCAPE}1;{colour}m{label}{ESCAPE}0m{line.removeprefix(label)}"
    assert coloured(line, io.StringIO()) == line
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured(line, Terminal()) == line


@pytest.mark.parametrize("line", ["errors: 3", "top-1 93.1%", "the error: none", "warnings were given: 2"])
def test_other_lines_are_unchanged(line):
    assert coloured(line, Terminal()) == line


def test_a_command_colours_its_error_on_a_terminal_only():
    ours, its = pty.openpty()
    process = subprocess.run(COMMAND, cwd=REPO, stdout=its, stderr=its, timeout=60)
    os.close(its)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert process.returncode == 2 and shown.startswith(f"{ESCAPE}1;31merror:{ESCAPE}0m missing.pt")
    piped = subprocess.run(COMMAND, cwd=REPO, capture_output=True, text=True, timeout=60)
    assert piped.stderr.startswith("error: missing.pt") and ESCAPE not in piped.stderr


def test_numbers_are_aligned_on_the_right():
    rows = [("class", "top-1 %", "note"), ("archery", "8.25", "-"), ("a", "100.00", "best"), ("b", "-", "")]
    assert format_table(rows).splitlines() == [
        "class    top-1 %  note",
        "-------  -------  ----",
        "archery     8.25  -",
        "a         100.00  best",
        "b              -",
    ]
