"""A page of values: text, tables, figures and what the page's script draws, as one HTML file that needs nothing else.

Whoever has something to show makes values and calls `page`; nobody writes HTML. Whatever a value says is escaped, except
the SVG of a `Figure`, which is one of our own drawings. The page loads nothing from anywhere, and says so to the browser by a
content security policy; it follows the reader's light or dark scheme.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from oche._version import __version__
from oche.core.errors import OcheError
from oche.report.metric_names import UNKNOWN
from oche.report.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Tone = Literal["", "lead", "muted", "ok", "watch", "bad", "unknown"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is read as ``text`` and sorted, and written to CSV, as ``value``; None sorts last."""

    text: str
    value: float | str | None


Content = str | int | float | None | Cell


@dataclass(frozen=True)
class Table:
    """Rows under ``columns``, sorted by a click or a key on a column's head, and downloaded as ``name``.csv.

    The first column names its row. Floats are shown with four digits, None as a dash; a `Cell` chooses its own words. Raises
    `OcheError` where a row has not as many cells as there are columns.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Content]]
    caption: str = ""
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise OcheError(
                    f"table {self.name!r} has {len(self.columns)} columns and a row of {len(row)} cells, {row!r}; give as many"
                )

    @property
    def cells(self) -> list[list[Cell]]:
        return [[_cell(content) for content in row] for row in self.rows]


def _cell(content: Content) -> Cell:
    if isinstance(content, Cell):
        return content
    if content is None:
        return Cell(UNKNOWN, None)
    if isinstance(content, int | float):
        return Cell(f"{content:,}" if isinstance(content, int) else f"{content:.4g}", content)
    return Cell(content, content)


@dataclass(frozen=True)
class Figure:
    """An SVG picture fit to stand in a page (`style.inline`, or a scene without background), under its ``caption``.

    ``wide``: one that must not shrink to a phone's width; it scrolls sideways there.
    """

    svg: str
    caption: str
    name: str = ""
    wide: bool = False
    natural: int = 0  #: width in CSS pixels; 0: that of the SVG's own units
    kind: ClassVar[str] = "figure"

    @classmethod
    def of(cls, drawing: Drawing, caption: str, name: str, wide: bool = False, svg: str = "") -> Figure:
        """A matplotlib figure as a part of the page; ``name`` must be this figure's alone, for its ids. ``svg``: what
        `style.svg` made of it, if that was asked already."""
        pixels = round(96 * drawing.get_size_inches()[0])
        return cls(style.inline(svg or style.svg(drawing), f"{slug(name)}-", caption), caption, name, wide, pixels)

    @property
    def width(self) -> int:
        """Natural width in CSS pixels."""
        match = re.search(r'viewBox="\S+ \S+ ([\d.]+) ', self.svg)
        return self.natural or (round(float(match[1])) if match else 600)


@dataclass(frozen=True)
class Prose:
    """Plain text; an empty line begins a new paragraph. ``tone`` says how it is set: a lead, a side remark, a verdict."""

    text: str
    tone: Tone = ""
    kind: ClassVar[str] = "prose"


@dataclass(frozen=True)
class Code:
    """Text as it is: a genotype, a configuration. ``name`` gives it a button that copies it."""

    text: str
    name: str = ""
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Cards:
    """(what, value) of a few figures that matter most."""

    cards: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "cards"


@dataclass(frozen=True)
class Images:
    """Small images side by side: (PNG as base64, text below it)."""

    images: Sequence[tuple[str, str]]
    caption: str = ""
    kind: ClassVar[str] = "images"


@dataclass(frozen=True)
class Heat:
    """Heat maps over epochs, under one slider; ``runs`` as `oche.report.heatmap.frames` makes them."""

    runs: Sequence[Mapping[str, Any]]
    kind: ClassVar[str] = "heat"


@dataclass(frozen=True)
class Row:
    """Items side by side where there is room; ``small``: many to a row, as small multiples."""

    items: Sequence[Item]
    small: bool = False
    kind: ClassVar[str] = "row"


@dataclass(frozen=True)
class Fold:
    """Items behind a line that opens them."""

    summary: str
    items: Sequence[Item]
    open: bool = False
    kind: ClassVar[str] = "fold"


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: ClassVar[str] = "heading"


Item = Table | Figure | Prose | Code | Cards | Images | Heat | Row | Fold | Heading


@dataclass(frozen=True)
class Section:
    """Items under a title; ``name`` is its id in the page, by default made of the title. Without a title: no heading."""

    title: str
    items: Sequence[Item]
    name: str = ""

    @property
    def id(self) -> str:
        return slug(self.name or self.title)


def slug(text: str) -> str:
    """``text`` as a part of a file name and of an id."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text)[:40].strip("-").lower() or "part"


def page(
    title: str,
    sections: Sequence[Section],
    subtitle: str = "",
    *,
    kicker: str = "oche report",
    state: tuple[str, str] | None = None,
    notes: Sequence[tuple[str, str]] = (),
) -> str:
    """The page as HTML text.

    ``subtitle``: a line under the title. ``state``: a run's state and what it means. ``notes``: (who, line) of what a reader
    must know first.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    scripts = "".join((here / name).read_text(encoding="utf-8") for name in ("heatmap.js", "page.js"))
    return environment.get_template("page.html").render(
        title=title, sections=sections, subtitle=subtitle, kicker=kicker, state=state, notes=notes, version=__version__,
        css=(here / "page.css").read_text(encoding="utf-8"), js=scripts,
    )  # fmt: skip
