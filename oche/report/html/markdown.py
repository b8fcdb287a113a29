"""Pages as plain text: tables as CSV, whole pages as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from oche.report.html.page import Item, Section, Table, TableCell


def csv_text(table: Table) -> str:
    """Return the table as CSV, with the values of the cells instead of their texts; a missing value is empty.

    The download button of the page writes the same.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(["" if cell.value is None else cell.value for cell in row] for row in table.cells)
    return text.getvalue()


def markdown(title: str, sections: Sequence[Section], subtitle: str = "", pictures: str = "pictures") -> str:
    """Return the page as Markdown, with its figures as links to the SVG files in the directory ``pictures``.

    Heat maps and images are left out.
    """
    parts = [f"# {title}", subtitle]
    for section in sections:
        parts += [f"## {section.title}" if section.title else "", *_items(section.items, pictures)]
    return "\n\n".join(part for part in parts if part) + "\n"


def tables(sections: Sequence[Section]) -> Iterator[Table]:
    """Yield all tables of a page."""
    for section in sections:
        yield from _tables(section.items)


def _tables(items: Sequence[Item]) -> Iterator[Table]:
    for item in items:
        if isinstance(item, Table):
            yield item
        yield from _tables(getattr(item, "items", ()))


def _items(items: Sequence[Item], pictures: str) -> Iterator[str]:
    for item in items:
        if item.kind in _WRITE:
            yield _WRITE[item.kind](item, pictures)


def _table(table: Table, pictures: str) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *[[_text(cell) for cell in row] for row in table.cells]]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*([table.caption, ""] if table.caption else []), *lines])


def _text(cell: TableCell) -> str:
    return cell.text.replace("|", "\\|").replace("\n", " ")


def _nested(item: Any, pictures: str) -> str:
    return "\n\n".join(_items(item.items, pictures))


_WRITE: dict[str, Callable[[Any, str], str]] = {
    "table": _table,
    "prose": lambda item, pictures: item.text,
    "figure": lambda item, pictures: f"![{item.caption}]({pictures}/{item.name}.svg)" if item.name else "",
    "code": lambda item, pictures: f"```\n{item.text.rstrip()}\n```",
    "cards": lambda item, pictures: "\n".join(f"- {what}: {value}" for what, value in item.cards),
    "heading": lambda item, pictures: f"### {item.text}",
    "row": _nested,
    "fold": lambda item, pictures: f"### {item.summary}\n\n{_nested(item, pictures)}",
}
