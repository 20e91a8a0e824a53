"""Rules between config keys (`utils.schema`). Each folder defines those of its keys in a file that does not import
PyTorch."""

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Literal, NamedTuple

from utils.schema import Config

Purpose = Literal["train", "test", "predict"]
FILES = ("datasets.rules", "modules.additions.rules", "modules.classifiers.rules", "modules.rules", "engine.rules")


class Rule(NamedTuple):
    """A rule over several keys; skipped if one of them, or its section, is invalid."""

    keys: tuple[str, ...]
    broken: Callable[[Config], bool]  # whether a config violates it
    message: str | Callable[[Config], str]  # follows the keys in the error message
    purposes: tuple[Purpose, ...] = ("train", "test", "predict")  # the commands that it applies to
    is_advice: bool = False  # a warning instead of an error


TrainRule = partial(Rule, purposes=("train",))


@cache
def all_rules() -> tuple[Rule, ...]:
    """Cross-key config rules collected from every package."""
    return tuple(rule for name in FILES for rule in import_module(name).RULES)
