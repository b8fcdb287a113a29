"""Pages of text, tables, figures and heat maps, each one self-contained HTML file.

A page is built from the dataclasses below and written by `render_page`. All text is escaped, except the SVG of a `Figure`, which
this package draws itself. The page loads nothing, which its content security policy enforces, and follows the light or dark
scheme of the browser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from oche._version import __version__
from oche.core.errors import OcheError
from oche.report.format_numbers import UNKNOWN
from oche.report.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

Tone = Literal["", "lead", "muted", "ok", "watch", "bad", "unknown"]


@dataclass(frozen=True)
class TableCell:
    """A cell of a table: shown as ``text``, sorted and written to CSV as ``value``; None sorts last."""

    text: str
    value: float | str | None


CellContent = str | int | float | None | TableCell


@dataclass(frozen=True)
class Table:
    """A table that the reader can sort by a column and download as ``name``.csv.

    The first column names the row. Floats are shown with four digits, None as a dash; a `TableCell` has its own text. Raises
    `OcheError` where a row does not have one cell for each column.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[CellContent]]
    caption: str = ""
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise OcheError(
                    f"table {self.name!r} has {len(self.columns)} columns and a row of {len(row)} cells, {row!r}; "
                    "give one cell for each column"
                )

    @property
    def cells(self) -> list[list[TableCell]]:
        return [[_cell(content) for content in row] for row in self.rows]


def _cell(content: CellContent) -> TableCell:
    if isinstance(content, TableCell):
        return content
    if content is None:
        return TableCell(UNKNOWN, None)
    if isinstance(content, int | float):
        return TableCell(f"{content:,}" if isinstance(content, int) else f"{content:.4g}", content)
    return TableCell(content, content)


@dataclass(frozen=True)
class Figure:
    """An inline SVG (from `style.inline`, or of a scene without background) with a caption.

    ``wide``: whether the figure scrolls sideways on narrow screens instead of shrinking.
    """

    svg: str
    caption: str
    name: str = ""
    wide: bool = False
    natural: int = 0
    """natural width in CSS pixels; 0: that of the SVG's viewBox"""
    kind: ClassVar[str] = "figure"

    @classmethod
    def of(cls, plot: Plot, caption: str, name: str, wide: bool = False, svg: str = "") -> Figure:
        """Convert a matplotlib figure. ``name`` must be unique in the page; ``svg``: the result of `style.svg`, if known."""
        pixels = round(96 * plot.get_size_inches()[0])
        return cls(style.inline(svg or style.svg(plot), f"{slug(name)}-", caption), caption, name, wide, pixels)

    @property
    def width(self) -> int:
        """Natural width in CSS pixels."""
        match = re.search(r'viewBox="\S+ \S+ ([\d.]+) ', self.svg)
        return self.natural or (round(float(match[1])) if match else 600)


@dataclass(frozen=True)
class Prose:
    """Plain text; an empty line begins a new paragraph. ``tone`` is its CSS class: a lead, a side remark, a verdict."""

    text: str
    tone: Tone = ""
    kind: ClassVar[str] = "prose"


@dataclass(frozen=True)
class Code:
    """Preformatted text, such as a genotype or a configuration. With a ``name`` it gets a button that copies it."""

    text: str
    name: str = ""
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Cards:
    """The most important numbers: pairs (label, value)."""

    cards: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "cards"


@dataclass(frozen=True)
class Images:
    """Small images side by side: pairs (PNG as base64, text below the image)."""

    images: Sequence[tuple[str, str]]
    caption: str = ""
    kind: ClassVar[str] = "images"


@dataclass(frozen=True)
class HeatMaps:
    """Heat maps over epochs with one slider; ``runs`` come from `oche.report.heatmap.run_frames`."""

    runs: Sequence[Mapping[str, Any]]
    kind: ClassVar[str] = "heat"


@dataclass(frozen=True)
class Row:
    """Items side by side where there is space; ``small``: many in a row, as small multiples."""

    items: Sequence[Item]
    small: bool = False
    kind: ClassVar[str] = "row"


@dataclass(frozen=True)
class Fold:
    """Items that are hidden until the reader opens ``summary``."""

    summary: str
    items: Sequence[Item]
    open: bool = False
    kind: ClassVar[str] = "fold"


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: ClassVar[str] = "heading"


Item = Table | Figure | Prose | Code | Cards | Images | HeatMaps | Row | Fold | Heading


@dataclass(frozen=True)
class Section:
    """Items under a title, without a heading where the title is empty. ``name`` is the id in the page, by default the title."""

    title: str
    items: Sequence[Item]
    name: str = ""

    @property
    def id(self) -> str:
        return slug(self.name or self.title)


def slug(text: str) -> str:
    """Return ``text`` in a form that is safe in file names and ids."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text)[:40].strip("-").lower() or "part"


def _joined(value: Any) -> Any:
    """Return plain text with each number and its unit on one line: "95 %", "± 0.48", "3 min"; other values unchanged."""
    if type(value) is not str:  # such as the markup of a figure
        return value
    value = re.sub(r"(?<=[\d.]) (?=(?:%|±|s|ms|min|h|MB|GB|kB|px|points?)(?![\w-]))", "\u00a0", value)
    return value.replace("± ", "±\u00a0")


def render_page(
    title: str,
    sections: Sequence[Section],
    subtitle: str = "",
    *,
    kicker: str = "oche report",
    state: tuple[str, str] | None = None,
    notes: Sequence[tuple[str, str]] = (),
) -> str:
    """Render the page as HTML text.

    ``subtitle``: a line under the title. ``kicker``: a line above it. ``state``: the state of a run and its meaning. ``notes``:
    (run, line) of problems and remarks, shown before the sections.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # imported when a page is written

    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=_joined,
    )  # fmt: skip
    scripts = "".join((here / name).read_text(encoding="utf-8") for name in ("heatmap.js", "page.js"))
    return environment.get_template("page.html").render(
        title=title, sections=sections, subtitle=subtitle, kicker=kicker, state=state, notes=notes, version=__version__,
        css=(here / "page.css").read_text(encoding="utf-8"), js=scripts,
    )  # fmt: skip
