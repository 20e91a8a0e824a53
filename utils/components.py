"""Tables of components: a config name and the class that it stands for, as `package.module.Class`.

A table (`modules.heads.HEADS` and its like) imports nothing, so that a config is checked without PyTorch; the class's
file is imported when the class is asked for.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from utils.config_fields import Section


class Component:
    """A class of a table, and the settings of its own.

    Attributes:
        table: where it is listed.
        Settings: its keys in a config, below `components.NAME`; the fields are made by `utils.config_fields.key`.
    """

    table: ClassVar[Mapping[str, str]]
    Settings: ClassVar[type[Section]] = Section

    @classmethod
    def settings(cls, cfg: Any) -> Any:
        """Its own Settings as the config gives them, checked by `utils.config.load_config`, else their defaults."""
        own = f"{cls.__module__}.{cls.__qualname__}"
        name = next(name for name, path in cls.table.items() if path == own)
        return cls.Settings.model_validate(cfg.components.get(name, {}))


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
