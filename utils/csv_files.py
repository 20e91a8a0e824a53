"""CSV files of results: a line of column names, then rows."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from utils.files import write_text_atomic

ODD_NAMES = "surrogateescape"  # file names need not be UTF-8


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


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """The rows as text by column; None for missing columns of a truncated row."""
    with Path(path).open(newline="", encoding="utf-8", errors=ODD_NAMES) as file:
        return list(csv.DictReader(file))
