"""Reads metrics.jsonl of a run folder."""

import json
from pathlib import Path
from typing import Any

from utils.errors import UserError


def read_records(path: Path, remedy: str) -> list[dict[str, Any]]:
    """The records of a run so far, in order; [] if there is no file. A truncated last line is ignored. Raises a
    UserError if a line is not a record of a run."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if lines and not lines[-1].endswith("}\n"):
            lines.pop()
        records = [json.loads(line) for line in lines]
        if odd := [record for record in records if not isinstance(record, dict) or "kind" not in record]:
            raise ValueError(f"{str(odd[0])[:40]} is not a record")
        return records
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: invalid metrics file ({error}); {remedy}") from error
