"""Reads the tables of error_messages.md, and checks the result of a command against a row."""

import re
from pathlib import Path

import pytest

from tests.commands.world import call

PAGE = Path(__file__).with_name("error_messages.md")
WORKS = "works"


def rows_of(section: str) -> dict[str, str]:
    """case -> expected outcome, from the table under the heading `section`."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")]
    return {case: outcome.strip("` ") for case, outcome in cells[2:]}


def matches(outcome: str, line: str) -> bool:
    """Whether a line equals an outcome, in which `...` matches anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in outcome.split("...")), line) is not None


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*")) if folder.exists() else set()


def expect(
    outcome: str, capsys: pytest.CaptureFixture, folder: Path, script: str, *arguments: object, code: int = 2
) -> None:
    """Run an entry script; a mistake gives exit code 2 and one line, and leaves no file in `folder`.

    `code`: another exit code, of a failure of the system.
    """
    before = tree(folder)
    capsys.readouterr()
    found = call(script, *arguments)
    error = capsys.readouterr().err
    if outcome.startswith(WORKS):
        assert found == 0, error
        return
    assert found == code and error.startswith("error: ") and error.count("\n") == 1, (found, error)
    assert matches(outcome, error.strip()), error
    assert tree(folder) == before
