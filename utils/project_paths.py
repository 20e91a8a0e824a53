"""Paths in configs: relative ones start from the repository, whatever the current folder."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer

REPOSITORY = Path(__file__).resolve().parents[1]
SHARD_INDEX = "shards.csv"
"""Index of packed clips in tar files, in their folder or at their URL."""


def is_url(path: str) -> bool:
    """Whether a path is a URL such as `s3://bucket/train`."""
    return "://" in path


def from_working_folder(path: str) -> str:
    """Resolve a relative path of a config: unchanged if the current folder is the repository, otherwise absolute."""
    if Path(path).is_absolute() or is_url(path) or Path.cwd() == REPOSITORY:
        return path
    return str(REPOSITORY / path)


def _if_given(path: str | None) -> str | None:
    return from_working_folder(path) if path else path


def _if_in_repository(name: str | None) -> str | None:
    return from_working_folder(name) if name and (REPOSITORY / name).exists() else name


def _from_repository(path: str | None) -> str | None:
    """The path as saved in a config: relative if in the repository, so that a run can be moved to another machine."""
    if path is None or not Path(path).is_absolute() or not Path(path).is_relative_to(REPOSITORY):
        return path
    relative = Path(path).relative_to(REPOSITORY)
    return str(relative) if relative.parts else ""


def given(path: str | None) -> str:
    """Narrow the type of a config path that the rules of the schema require for this command."""
    assert path is not None
    return path


# Types of the schema. A NameOrPath is a path if the repository has a file or folder of this name.
ProjectPath = Annotated[str, AfterValidator(from_working_folder), PlainSerializer(_from_repository)]
OptionalPath = Annotated[str | None, AfterValidator(_if_given), PlainSerializer(_from_repository)]
NameOrPath = Annotated[str, AfterValidator(_if_in_repository), PlainSerializer(_from_repository)]
OptionalNameOrPath = Annotated[str | None, AfterValidator(_if_in_repository), PlainSerializer(_from_repository)]
