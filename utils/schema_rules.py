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
    """A rule over several keys; skipped where one of them or of their sections is itself at fault."""

    keys: tuple[str, ...]
    broken: Callable[[Config], bool]  # whether a config breaks it: a fault
    message: str  # what follows the keys in the line for the user
    purposes: tuple[Purpose, ...] = ("train", "test", "predict")  # the commands that it is for
    is_advice: bool = False  # a warning, not a fault


TrainRule = partial(Rule, purposes=("train",))


@cache
def all_rules() -> tuple[Rule, ...]:
    """The rules of all folders."""
    return tuple(rule for name in FILES for rule in import_module(name).RULES)
