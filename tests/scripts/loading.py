"""Scripts as modules: nothing imports `scripts`, so their files are loaded by path. And the report that some write."""

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

REPO = Path(__file__).parents[2]


def load_script(name: str) -> ModuleType:
    """scripts/`name`.py as a module, run once a process. Worker processes cannot import it: they need the command."""
    registered = f"script_{name}"
    if registered not in sys.modules:
        spec = importlib.util.spec_from_file_location(registered, REPO / "scripts" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[registered] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    return sys.modules[registered]


def read_report(out: Path) -> dict[str, dict[str, str]]:
    """path -> line of OUT/report.csv."""
    with (out / "report.csv").open(newline="", errors="surrogateescape") as file:
        return {row["path"]: row for row in csv.DictReader(file)}
