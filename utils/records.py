"""Reads JSON files that commands wrote: metrics.jsonl of a run folder, summaries and settings."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from utils.errors import UserError

Count = Annotated[int, Field(ge=0, lt=2**53)]  # exact as float64


class Keys(BaseModel):
    """A JSON object. Subclasses declare the keys that its readers need."""

    model_config = ConfigDict(extra="allow", strict=True)


class Record(Keys):
    """A line of metrics.jsonl: an optimiser step, or the scores of a validation. All other values are numbers."""

    __pydantic_extra__: dict[str, float | None]
    kind: Literal["train", "val"]
    step: Count
    epoch: Count


def parse_json(text: str, kind: type[BaseModel] = Keys) -> dict[str, Any]:
    """A JSON object that has the keys of `kind`, with values of their types, and possibly others. Raises a ValueError
    with a message in one line."""
    try:
        content = json.loads(text)
        kind.model_validate(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValidationError as error:
        faults = [(".".join(map(str, fault["loc"])), fault) for fault in error.errors(include_url=False)]
        if missing := [key for key, fault in faults if fault["type"] == "missing"]:
            raise ValueError(f"it lacks {', '.join(missing)}") from None
        key, fault = faults[0]
        raise ValueError(f"{key}: {fault['msg']}" if key else "it contains no keys with values") from None
    return content


def read_json(path: Path, what: str, remedy: str, kind: type[BaseModel] = Keys) -> dict[str, Any]:
    """`parse_json` of a file. Raises a UserError that says `what` the file is not, and the remedy."""
    try:
        return parse_json(path.read_text(encoding="utf-8"), kind)
    except (FileNotFoundError, IsADirectoryError, ValueError) as error:
        raise UserError(f"{path}: not {what} ({error}); {remedy}") from error


def read_records(path: Path, remedy: str) -> list[dict[str, Any]]:
    """The records of a run so far, in order; [] if there is no file. A truncated last line is ignored. Raises a
    UserError if a line is not a record of a run."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if lines and not lines[-1].endswith("}\n"):
            lines.pop()
        return [parse_json(line, Record) for line in lines]
    except (FileNotFoundError, IsADirectoryError, ValueError) as error:
        raise UserError(f"{path}: invalid metrics file ({error}); {remedy}") from error
