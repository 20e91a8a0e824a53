"""CSV files of results: a line of column names, then rows."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import write_text_atomic
from utils.odd_names import ODD_NAMES


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """The text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Iterable[Any]], errors: str = ODD_NAMES) -> None:
    """Args: errors: as for `open`, for characters that UTF-8 cannot encode."""
    write_text_atomic(path, csv_text(columns, rows), errors)


def read_csv(
    path: str | Path, columns: Iterable[str], remedy: str, numbers: Iterable[str] = ()
) -> list[dict[str, str]]:
    """The rows of a file that a command wrote, as text by column. A last row that was cut off is left out.

    Args:
        columns: that the file must have. remedy: what to do if it is invalid.
        numbers: columns of which each row must have a whole number; some rows may leave them empty.

    Raises:
        UserError: the file lacks a column, or a row is invalid.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8", ODD_NAMES)
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = list(reader)
        if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise ValueError(f"it has no column {missing[0]}")
        if rows and not text.endswith("\n"):
            rows.pop()
        for number, row in enumerate(rows, 1):
            if None in row or None in row.values():
                raise ValueError(f"row {number} has another number of columns")
            if odd := [row[name] for name in numbers if row[name] and not row[name].isdecimal()]:
                raise ValueError(f"row {number}: {odd[0]!r} is not a whole number")
        return rows
    except (csv.Error, ValueError) as error:
        raise UserError(f"{path}: not a file that this command wrote ({error}); {remedy}") from error
