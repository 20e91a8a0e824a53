"""Formatting of results: aligned tables and JSON summaries."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.files import write_text_atomic


def write_summary(path: str | Path, **values: Any) -> None:
    """Write the scores of a test and what was tested as JSON."""
    write_text_atomic(path, json.dumps(values, indent=2) + "\n")


def next_command(*words: str) -> str:
    """The last line of a command: what to run next."""
    return f"next: {shlex.join(words)}"


def next_test(runs: Mapping[Path, Mapping[str, float]]) -> str:
    """As `next_command`: the test of the best of several runs, by the top-1 or mAP of their validations."""
    best = max(runs, key=lambda run: runs[run]["map" if "map" in runs[run] else "top1"])
    return next_command("sh", "scripts/run_test.sh", str(best / "last_model.pt"))


def format_table(rows: list[tuple[str, ...]]) -> str:
    """A text table with aligned columns, numbers to the right; the first row is the header."""
    columns: list[list[str]] = []
    for heading, *cells in zip(*rows, strict=True):
        width = max(map(len, (heading, *cells)))
        are_numbers = all(cell[:1].isdigit() for cell in cells if cell not in ("", "-"))
        align = str.rjust if are_numbers else str.ljust
        columns.append([align(heading, width), "-" * width, *(align(cell, width) for cell in cells)])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns))
