"""Tables of components: a config name and the class that it stands for, as `package.module.Class`.

A table (`modules.heads.HEADS` and its like) imports nothing, so that a config is checked without PyTorch; the class's
file is imported when the class is asked for.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module


def component(table: Mapping[str, str], name: str) -> type:
    """The class of `table` that a config calls `name`."""
    return _load(table[name])


def components(table: Mapping[str, str]) -> dict[str, type]:
    """All classes of `table` by their config name."""
    return {name: _load(path) for name, path in table.items()}


@cache
def _load(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
