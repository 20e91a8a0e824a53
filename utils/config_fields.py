"""Fields of the sections of a config (`utils.schema`)."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError, core_schema

Role = Literal["", "weights", "choice", "training"]


def key(default: Any, description: str, unit: str = "", role: Role = "", **limits: Any) -> Any:
    """A schema field.

    Args:
        default: a value, or a callable that creates one.
        role: role when a checkpoint is loaded (`utils.recipe`). weights: determines names or shapes of tensors; choice:
            users may change it; training: does not affect a trained model.
    """
    how = {"default_factory": default} if callable(default) else {"default": default}
    return Field(description=description, json_schema_extra={"unit": unit, "role": role}, **how, **limits)


def none_string(value: Any) -> Any:
    """Validator: the text `None` for None."""
    # In YAML, None without quotes is text; users also write null.
    return "None" if value is None else value


@dataclass(frozen=True)
class OneOf:
    """Restricts a field to the names in a table of components.

    The table is read when a config is validated, so that components only need to be added there. Tables import nothing.
    """

    table: str  # dotted path of a dict, such as modules.heads.HEADS
    others: tuple[Any, ...] = ()  # further choices, listed first

    def paths(self) -> dict[str, str]:
        """The table: name -> path of the class."""
        module, _, name = self.table.rpartition(".")
        return getattr(import_module(module), name)

    def choices(self) -> list[Any]:
        return [*self.others, *self.paths()]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def _check(self, value: Any) -> Any:
        choices = [repr(choice) for choice in self.choices()]
        if repr(value) not in choices:
            listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise PydanticCustomError("one_of", "must be {listed}", {"listed": listed})
        return value


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=True)
