"""HTML from Python values. Text is escaped unless it is `Html`."""

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

LONG = 12  # tables with at least this many rows scroll
_VOID = {"input", "meta", "br", "img", "link"}
_ASSETS = Path(__file__).parent / "page"


class Html(str):
    """Text that is already HTML."""


def el(tag: str, *children: Any, **attributes: Any) -> Html:
    """An element. `class_` is class, `data_value` is data-value; attributes that are None or False are omitted, True
    has no value.

    Children: `Html`, text (escaped), None (nothing) or a list of these.
    """
    named = [(name.strip("_").replace("_", "-"), value) for name, value in attributes.items()]
    words = [
        name if value is True else f'{name}="{html.escape(str(value))}"'
        for name, value in named
        if value is not None and value is not False
    ]
    head = f"<{' '.join([tag, *words])}>"
    return Html(head if tag in _VOID else f"{head}{join(children)}</{tag}>")


def join(children: Sequence[Any]) -> Html:
    """The concatenated children of an element."""
    parts = []
    for child in children:
        if isinstance(child, list):
            parts.append(join(child))
        elif child is not None:
            parts.append(child if isinstance(child, Html) else html.escape(str(child)))
    return Html("".join(parts))


class Cell(NamedTuple):
    """A cell of a table with its content, and its number for sorting; None: sort by text."""

    shown: Any
    value: float | None = None


def number(value: float | None, digits: int = 1) -> Cell:
    """A number with `digits` decimals; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return Cell("–", -math.inf)
    return Cell(f"{value:,.{digits}f}", value)


def count_of(count: int, noun: str) -> str:
    """As in 1 video, 2 classes, 1,000 videos."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def ranged(value: float, interval: tuple[float, float]) -> Cell:
    """A number, and its interval in a small font."""
    low, high = interval
    return Cell([f"{value:.1f}", el("small", f" {low:.1f}–{high:.1f}", class_="range")], value)


def table(
    columns: Sequence[str | tuple[str, str]],
    rows: Sequence[Sequence[Any]],
    caption: str,
    id: str | None = None,
    filter_label: str | None = None,
) -> Html:
    """A table that can be sorted by its headings. It scrolls in its own box; on phones each row is a card.

    Args:
        columns: headings, or (heading, explanation) pairs; explanations are below the table.
        rows: lists of `Cell` or text; columns are right-aligned if their first cell has a value.
        caption: description of the table for screen readers.
        filter_label: label of a field that filters the rows of a long table by text; needs an id.
    """
    cells = [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in rows]
    is_number = [bool(cells) and cells[0][i].value is not None for i in range(len(columns))]
    titles = [column[0] if isinstance(column, tuple) else column for column in columns]
    headings = [
        el("th", el("button", title, type="button"), scope="col", class_="number" if right else None)
        for title, right in zip(titles, is_number)
    ]
    body = []
    for row in cells:
        columns_of_row = enumerate(zip(row, titles, is_number))
        body.append(el("tr", [_td(cell, title, right, i == 0) for i, (cell, title, right) in columns_of_row]))
    is_long = len(rows) > LONG
    grid = el(
        "table",
        el("caption", caption, class_="unseen"),
        el("thead", el("tr", headings)),
        el("tbody", body),
        class_="sortable long" if is_long else "sortable",
        id=id,
    )
    # Scrolling boxes must be accessible by keyboard.
    box = el("div", grid, class_="box tall" if is_long else "box", tabindex="0", role="region", aria_label=caption)
    hints = [el("li", el("b", column[0]), " ", column[1]) for column in columns if isinstance(column, tuple)]
    below = el("ul", hints, class_="hints") if hints else None
    if filter_label is None or not is_long:
        return join([box, below])
    field = el("input", type="search", data_filters=id, autocomplete="off", spellcheck="false")
    count = el("output", f"{len(rows)} rows", data_counts=id)
    return join([el("p", el("label", filter_label, " ", field), " ", count, class_="controls"), box, below])


def _td(cell: Cell, title: str, is_number: bool, is_first: bool) -> Html:
    value = None if cell.value is None else f"{cell.value:.6g}".replace("inf", "Infinity")  # as in JavaScript
    if is_first and not is_number:
        return el("th", cell.shown, scope="row", data_value=value)
    return el("td", cell.shown, data_value=value, data_label=title, class_="number" if is_number else None)


def data_block(id: str, value: Any) -> Html:
    """JSON for the script of the page. `<`, `>` and `&` are escaped, so that no text can end the element.

    Raises ValueError for a NaN.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return el("script", Html(text), type="application/json", id=id)


class Part(NamedTuple):
    """A section of a page: `id` for links to it, title and content."""

    id: str
    title: str
    content: Any


def page(title: str, opening: Any, parts: Sequence[Part]) -> str:
    """The whole document with style and script; its content security policy prevents all requests."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    links = el("ul", [el("li", el("a", part.title, href=f"#{part.id}")) for part in parts])
    scripts = "\n".join((_ASSETS / name).read_text(encoding="utf-8") for name in ("page.js", "matrix.js", "map.js"))
    body = [
        el("header", opening),
        el("nav", links, aria_label="Contents"),
        el("main", [el("section", el("h2", part.title), part.content, id=part.id) for part in parts]),
        el("script", Html(scripts)),
    ]
    head = [
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href="data:,"),
        el("title", title),
        el("style", Html((_ASSETS / "page.css").read_text(encoding="utf-8"))),
    ]
    return f"<!doctype html>\n{el('html', el('head', head), el('body', body), lang='en')}\n"
