"""Writes docs/config.md from the schema; with --check, only says whether the page is current (exit code 1: it is not).

python -m tools.make_config_docs [--check]
"""

import sys
import types
import typing
from typing import Any

from utils.config_fields import OneOf
from utils.files import write_text_atomic
from utils.project_paths import REPOSITORY
from utils.schema import MEANINGLESS_KEYS, dotted_keys
from utils.schema_rules import ADVICE, RULES

HEAD = """# Config

A config is a YAML file with the sections `data`, `network`, `solver` and `logging`, and three keys above them. Every
key has a default; unknown keys, wrong types and contradictions are all reported at once, before data or GPU is touched.
Any key can be overridden on a command line: `solver.lr=1e-4 data.batch_size=16 "network.prompt=a clip of {}."`.

Relative paths in a config, in a file as well as in `key=value`, start from the repository, wherever the file is and the
command is called. Paths in other options (`--config`, `--weights`, `--out`, the videos of `predict.py`) start from the
folder where `python` is called. A saved config holds paths inside the repository as relative ones.

The resolved config is saved as `config.yaml` in the run folder and inside each checkpoint.

`python train.py --config CONFIG --check` checks everything that a run would need, prints the plan and stops.

This page is made from `utils/schema.py` by `python -m tools.make_config_docs`.
"""


def type_text(annotation: Any) -> str:
    """A field's type as a user would say it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if origin is dict:
        return "sections by name"
    if origin is list:
        return f"list of {type_text(arguments[0])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(a) for a in arguments)
    names = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}
    return names[annotation]


def range_text(field: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [f"{signs[a]} {getattr(m, a)}" for m in field.metadata for a in signs if hasattr(m, a)]
    return f" ({', '.join(limits)})" if limits else ""


def default_text(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return "empty" if value in ("", {}) else str(value)


def section_table(prefix: str) -> list[str]:
    lines = ["| key | type | default | unit | meaning |", "| --- | --- | --- | --- | --- |"]
    for name, field in dotted_keys().items():
        if name.rpartition(".")[0] == prefix:
            table = next((m for m in field.metadata if isinstance(m, OneOf)), None)
            kind = ", ".join(f"`{c}`" for c in table.choices()) if table else type_text(field.annotation)
            kind += range_text(field)
            cells = (f"`{name}`", kind, default_text(field), field.json_schema_extra["unit"], field.description)
            lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return lines


def make_page() -> str:
    """The whole of docs/config.md."""
    prefixes = list(dict.fromkeys(name.rpartition(".")[0] for name in dotted_keys()))
    lines = [HEAD]
    for prefix in prefixes:
        lines += [f"## {prefix}" if prefix else "## Top level", "", *section_table(prefix), ""]
    lines += ["## Rules over several keys", ""]
    lines += [f"- {', '.join(f'`{k}`' for k in rule.keys)}: {rule.message}" for rule in RULES]
    lines += [f"- {', '.join(f'`{k}`' for k in rule.keys)}: {rule.message} (a warning)" for rule in ADVICE]
    lines += ["", "## Keys without effect", ""]
    lines += [f"- `{name}`: accepted with a warning, since published files hold it" for name in MEANINGLESS_KEYS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    page = REPOSITORY / "docs" / "config.md"
    if sys.argv[1:] == ["--check"]:
        is_current = page.exists() and page.read_text(encoding="utf-8") == make_page()
        print(f"docs/config.md is {'current' if is_current else 'stale: run tools/make_config_docs.py'}")
        sys.exit(0 if is_current else 1)
    write_text_atomic(page, make_page())
