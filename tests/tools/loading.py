"""Loads the tools as modules, and reads the reports that some of them write."""

import csv
import importlib
from pathlib import Path
from types import ModuleType

from utils.cli import run_command


def load_tool(name: str) -> ModuleType:
    """The module `tools.NAME`."""
    return importlib.import_module(f"tools.{name}")


def run_tool(tool: ModuleType, *words: object) -> int:
    """Run a tool, or a program of the demo, in this process; returns the exit code."""
    return run_command(tool.main, tool.parse_arguments([str(word) for word in words]))


def read_report(out: Path) -> dict[str, dict[str, str]]:
    """path -> line of OUT/report.csv."""
    with (out / "report.csv").open(newline="", errors="surrogateescape") as file:
        return {row["path"]: row for row in csv.DictReader(file)}
