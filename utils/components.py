"""Tables of components: config names and their classes, as `package.module.Class`.

A table (`modules.heads.HEADS` and its like) imports nothing, so that a config is checked without PyTorch; the class's
file is imported when the class is asked for.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from utils.config_fields import Section
from utils.schema import Config

Kind = TypeVar("Kind", bound="Component")


class Component:
    """A class of a table, and the settings of its own."""

    table: ClassVar[Mapping[str, str]]  # where it is listed
    # (pattern, replacement) from the names of its parameters in published checkpoints to ours.
    published_names: ClassVar[tuple[tuple[str, str], ...]] = ()
    Settings: ClassVar[type[Section]] = Section  # its keys below `components.NAME`, by `utils.config_fields.key`

    @classmethod
    def named(cls: type[Kind], name: str) -> type[Kind]:
        """The class of this kind that a config calls `name`."""
        found = load_component(cls.table[name])
        assert issubclass(found, cls)
        return found

    @classmethod
    def listed(cls: type[Kind]) -> dict[str, type[Kind]]:
        """All classes of this kind by their config name."""
        return {name: cls.named(name) for name in cls.table}

    @classmethod
    def settings(cls, cfg: Config) -> Any:
        """Its own Settings as the config gives them, checked by `utils.config.load_config`, else their defaults."""
        own = f"{cls.__module__}.{cls.__qualname__}"
        name = next(name for name, path in cls.table.items() if path == own)
        return cls.Settings.model_validate(cfg.components.get(name, {}))


@cache
def load_component(path: str) -> type[Component]:
    """The class at `path`, which a table gives as `package.module.Class`."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
