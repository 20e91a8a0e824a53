"""Tables of components: config names and classes, given as `package.module.Class`.

Tables such as `modules.heads.HEADS` import nothing, so that a config is checked without PyTorch; the file of a class is
imported when the class is needed.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from utils.config_fields import Section
from utils.schema import Config

Kind = TypeVar("Kind", bound="Component")


class Component:
    """Base class of the classes in a table, with their settings."""

    table: ClassVar[Mapping[str, str]]  # the table that lists it
    # (pattern, replacement) from the names of its parameters in published checkpoints to ours.
    published_names: ClassVar[tuple[tuple[str, str], ...]] = ()
    Settings: ClassVar[type[Section]] = Section  # its keys below `components.NAME`, by `utils.config_fields.key`

    @classmethod
    def named(cls: type[Kind], name: str) -> type[Kind]:
        """The class with the config name `name`."""
        found = load_component(cls.table[name])
        assert issubclass(found, cls)
        return found

    @classmethod
    def listed(cls: type[Kind]) -> dict[str, type[Kind]]:
        """All classes of the table, by config name."""
        return {name: cls.named(name) for name in cls.table}

    @classmethod
    def settings(cls, cfg: Config) -> Any:
        """Its Settings from a config that `utils.config.load_config` has checked; defaults for keys not given."""
        own = f"{cls.__module__}.{cls.__qualname__}"
        name = next(name for name, path in cls.table.items() if path == own)
        return cls.Settings.model_validate(cfg.components.get(name, {}))


@cache
def load_component(path: str) -> type[Component]:
    """Import the class at `path`, given as `package.module.Class`."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
