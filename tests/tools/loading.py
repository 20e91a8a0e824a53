"""The tools as modules, and the report that some of them write."""

import csv
import importlib
from pathlib import Path
from types import ModuleType


def load_tool(name: str) -> ModuleType:
    """The module `tools.NAME`."""
    return importlib.import_module(f"tools.{name}")


def read_report(out: Path) -> dict[str, dict[str, str]]:
    """path -> line of OUT/report.csv."""
    with (out / "report.csv").open(newline="", errors="surrogateescape") as file:
        return {row["path"]: row for row in csv.DictReader(file)}
