"""HTML from Python values: text is escaped unless it is `Html`, so a name can never break the page."""

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

_VOID = {"input", "meta", "br", "img", "link"}
_HERE = Path(__file__).parent


class Html(str):
    """Text that is HTML already."""


def el(tag: str, *children: Any, **attributes: Any) -> Html:
    """An element. `class_` is class, `data_value` is data-value; an attribute of None or False is left out, True bare.

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
    """The children of an element, one after the other."""
    parts = []
    for child in children:
        if isinstance(child, list):
            parts.append(join(child))
        elif child is not None:
            parts.append(child if isinstance(child, Html) else html.escape(str(child)))
    return Html("".join(parts))


class Cell(NamedTuple):
    """A cell of a table: what it shows, and the number that it sorts by; None: it sorts by its text."""

    shown: Any
    value: float | None = None


def number(value: float | None, digits: int = 1) -> Cell:
    """A number with so many decimals; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return Cell("–", -math.inf)
    return Cell(f"{value:,.{digits}f}", value)


def ranged(value: float, interval: tuple[float, float], digits: int = 1) -> Cell:
    """A number, and its interval in small type."""
    low, high = interval
    small = el("small", f" {low:.{digits}f}–{high:.{digits}f}", class_="range")
    return Cell([f"{value:.{digits}f}", small], value)


def table(
    columns: Sequence[str | tuple[str, str]],
    rows: Sequence[Sequence[Any]],
    caption: str,
    id: str | None = None,
    filter_label: str | None = None,
    is_tall: bool = False,
) -> Html:
    """A table in a box that scrolls by itself; sorted by a click on a heading.

    Args:
        columns: headings, or pairs of a heading and its explanation.
        rows: a `Cell` or text each; a column is set right where its first cell has a value.
        caption: what the table holds, for those who hear the page.
        filter_label: a field of this name filters the rows by their text; needs an id.
        is_tall: the box has a height and scrolls in it.
    """
    cells = [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in rows]
    is_number = [bool(cells) and cells[0][i].value is not None for i in range(len(columns))]
    headings = []
    for column, right in zip(columns, is_number):
        title, hint = column if isinstance(column, tuple) else (column, None)
        button = el("button", title, type="button", title=hint)
        headings.append(el("th", button, scope="col", class_="number" if right else None))
    body = [
        el("tr", [_td(cell, right, place == 0) for place, (cell, right) in enumerate(zip(row, is_number))])
        for row in cells
    ]
    grid = el(
        "table",
        el("caption", caption, class_="unseen"),
        el("thead", el("tr", headings)),
        el("tbody", body),
        class_="sortable",
        id=id,
    )
    box = el(
        "div", grid, class_="box tall" if is_tall else "box", tabindex="0", role="region", aria_label=caption
    )  # a box that scrolls must be reachable by the keyboard
    if filter_label is None:
        return box
    field = el("input", type="search", data_filters=id, autocomplete="off", spellcheck="false")
    count = el("output", f"rows: {len(rows)}", data_counts=id)
    return join([el("p", el("label", filter_label, " ", field), " ", count, class_="controls"), box])


def _td(cell: Cell, is_number: bool, is_first: bool) -> Html:
    value = None if cell.value is None else f"{cell.value:.6g}".replace("inf", "Infinity")  # as JavaScript reads it
    length = len(cell.shown) if isinstance(cell.shown, str) else 0
    name = "number" if is_number else "long" if length > 24 else "text" if length > 10 else None
    if is_first and not is_number:
        return el("th", cell.shown, scope="row", data_value=value, class_=name)
    return el("td", cell.shown, data_value=value, class_=name)


def data_block(id: str, value: Any) -> Html:
    """JSON for the page's script. No text in it can end the element: `<`, `>` and `&` are written as escapes.

    Raises ValueError for a NaN.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return el("script", Html(text), type="application/json", id=id)


def tiles(pairs: Sequence[tuple[str, str, str]]) -> Html:
    """Headline figures: name, figure, and a small line below it."""
    return el(
        "dl",
        [el("div", el("dt", name), el("dd", el("b", figure), el("small", below))) for name, figure, below in pairs],
        class_="tiles",
    )


class Section(NamedTuple):
    """A part of a page: `id` for links to it, its title and content."""

    id: str
    title: str
    content: Any


def page(title: str, subtitle: Any, sections: Sequence[Section]) -> str:
    """The whole document; style and script are in it, and its policy lets the browser fetch nothing."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    contents = el(
        "nav", el("ul", [el("li", el("a", s.title, href=f"#{s.id}")) for s in sections]), aria_label="Contents"
    )
    body = [
        el("header", el("h1", title), subtitle, contents),
        el("main", [el("section", el("h2", s.title), s.content, id=s.id) for s in sections]),
        el("script", Html((_HERE / "page.js").read_text(encoding="utf-8"))),
    ]
    head = [
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href="data:,"),
        el("title", title),
        el("style", Html((_HERE / "page.css").read_text(encoding="utf-8"))),
    ]
    return f"<!doctype html>\n{el('html', el('head', head), el('body', body), lang='en')}\n"
