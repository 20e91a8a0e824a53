"""Writes docs/config.md from the schema.

Examples:
    python -m tools.make_config_docs
"""

import argparse
import sys
import types
import typing
from typing import Any

from utils.cli import Parser, run_command
from utils.config_fields import OneOf, Section
from utils.files import write_text_atomic
from utils.project_paths import REPOSITORY
from utils.schema import MEANINGLESS_KEYS, dotted_keys

HEAD = """# Config

A config is a YAML file; every key has a default. Unknown keys, wrong types and contradictions are reported together,
before data is read. Keys can be overridden on the command line: `solver.lr=1e-4 "network.prompt=a clip of {}."`. The
resolved config is saved as `config.yaml` in the run folder and in each checkpoint.

Relative paths in a config or in `key=value` start from the repository, paths of other options (`--config`, `--weights`,
`--out`, videos) from the current folder.

This page is generated from `utils/schema.py` by `python -m tools.make_config_docs`.
"""


def type_text(annotation: Any) -> str:
    """The type of a field, for users."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if origin is dict:
        return "sections by name"
    if origin is list:
        return f"list of {type_text(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "sections"
    if origin in (typing.Union, types.UnionType):
        return " / ".join(type_text(a) for a in arguments)
    names = {str: "text", int: "integer", float: "number", bool: "true / false", type(None): "null"}
    return names[annotation]


def range_text(field: Any) -> str:
    """The limits of a key, as in ` (≥ 0)`; empty if it has none."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [f"{signs[a]} {getattr(m, a)}" for m in field.metadata for a in signs if hasattr(m, a)]
    return f" ({', '.join(limits)})" if limits else ""


def default_text(field: Any) -> str:
    """The default of a key as in YAML."""
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return "empty" if value in ("", {}) else str(value)


def section_table(prefix: str) -> list[str]:
    """The lines of the table of a section's keys."""
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in dotted_keys().items():
        if name.rpartition(".")[0] == prefix:
            table = next((m for m in field.metadata if isinstance(m, OneOf)), None)
            kind = ", ".join(f"`{c}`" for c in table.choices()) if table else type_text(field.annotation)
            kind += range_text(field)
            unit = field.json_schema_extra["unit"]
            is_clear = unit.removesuffix("s") in field.description
            meaning = field.description if is_clear else f"{field.description} ({unit})"
            lines.append(f"| {' | '.join((f'`{name}`', kind, default_text(field), meaning))} |")
    return lines


def make_page() -> str:
    """The contents of docs/config.md."""
    prefixes = list(dict.fromkeys(name.rpartition(".")[0] for name in dotted_keys()))
    lines = [HEAD]
    for prefix in prefixes:
        lines += [f"## {prefix}" if prefix else "## Top level", "", *section_table(prefix), ""]
    ignored = ", ".join(f"`{name}`" for name in MEANINGLESS_KEYS)
    lines.append(f"Accepted and ignored, because published configs contain them: {ignored}.")
    return "\n".join(lines) + "\n"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    return Parser(__doc__).parse_args(arguments)


def main(_: argparse.Namespace) -> None:
    write_text_atomic(REPOSITORY / "docs" / "config.md", make_page())


if __name__ == "__main__":
    sys.exit(run_command(main, parse_arguments()))
