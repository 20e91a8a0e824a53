"""Only a component's own file, and the table that lists it, compare with its config name or test for its class."""

import ast
from pathlib import Path
from typing import get_args

import pytest

from modules.optimizers import OPTIMIZERS
from modules.probes import PROBES
from modules.schedule import SCHEDULES
from tests.test_arrows import FILES, REPO, folder_of
from utils.config_fields import OneOf
from utils.schema import Optimizer, dotted_keys

OTHER_TABLES = (
    "modules.additions.OWN_KEYS",
    "modules.classifiers.TRAINED",
    "modules.probes.PROBES",
    "datasets.augmentations.AUGMENTATIONS",
)
"""Tables whose names are not the values of one key."""
NOT_COMPONENTS = {"None"}  # the mean of the frames


def owners() -> dict[str, set[str]]:
    """Config name or class of a component -> files that may compare with it."""
    of_keys = [each for field in dotted_keys().values() for each in field.metadata if isinstance(each, OneOf)]
    found: dict[str, set[str]] = {}
    for one_of in (*of_keys, *map(OneOf, OTHER_TABLES)):
        package = one_of.table.rpartition(".")[0].replace(".", "/")
        for name, path in one_of.paths().items():
            files = {f"{package}/__init__.py", path.rpartition(".")[0].replace(".", "/") + ".py"}
            found.setdefault(name, set()).update(files)
            found.setdefault(path.rpartition(".")[2], set()).update(files)
    for name in SCHEDULES:
        found.setdefault(name, set()).add("modules/schedule.py")
    for name in get_args(Optimizer):
        found.setdefault(name, set()).add("modules/optimizers.py")
    return {name: files for name, files in found.items() if name not in NOT_COMPONENTS}


OWNERS = owners()


def foreign_comparisons(source: str, path: str) -> list[str]:
    """Comparisons (`==`, `in`, `case`, `isinstance` ...) in a file with components that it does not own."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Compare, ast.MatchValue)):
            names = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            names = {each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)}
        else:
            continue
        if any(path not in OWNERS[name] for name in names if isinstance(name, str) and name in OWNERS):
            found.append(f"{path}:{node.lineno} {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", [path for path in FILES if folder_of(path) not in ("tests", "benchmarks")], ids=str)
def test_components_are_not_asked_for_by_name(path: Path):
    assert foreign_comparisons((REPO / path).read_text(encoding="utf-8"), path.as_posix()) == []


@pytest.mark.parametrize(
    "condition",
    [
        'cfg.network.tm == "tokenshift"',
        '"tokenshift" != network.tm',
        'kind in ("NCE", "DS")',
        'solver.optim == "lion"',
        'solver.type == "multistep"',
        'data.decoder == "pyav"',
        "isinstance(source, PyAVVideo)",
    ],
)
def test_such_a_comparison_is_found(condition):
    assert len(foreign_comparisons(f"if {condition}:\n    pass", "modules/checkpoint_layout.py")) == 1


def test_a_component_may_ask_for_itself():
    assert foreign_comparisons('assert cfg.network.tm == "tokenshift"', "modules/additions/tokenshift.py") == []
    assert {*OPTIMIZERS, *SCHEDULES, *PROBES} <= set(OWNERS)
