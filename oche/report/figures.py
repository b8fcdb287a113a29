"""Figures of a report: each is written as SVG and PNG, and returned as inline SVG for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oche.core import atomic_files as atomic
from oche.core.architecture import Cell
from oche.report.drawings.cell import cell_png, cell_svg
from oche.report.drawings.chain import Latencies
from oche.report.drawings.network import network_png, network_svg
from oche.report.html.page import Figure, Item, Row
from oche.report.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot


class FigureWriter:
    """Writes figures to the directory ``folder``, NAME.svg and NAME.png, and returns them for the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def plot(self, name: str, plot: Plot, caption: str, wide: bool = False) -> Figure:
        """Write a matplotlib figure; ``wide``: see `Figure`."""
        text = style.svg(plot)
        atomic.write_bytes(self.folder / f"{name}.svg", text.encode())
        if plot.get_layout_engine():  # the layout is done; doing it again takes longer than drawing
            plot.set_layout_engine("none")
        atomic.write_bytes(self.folder / f"{name}.png", style.png(plot))
        return Figure.of(plot, caption, name, wide, text)

    def cell(self, name: str, cell: Cell, title: str, caption: str, latencies: Latencies | None = None) -> Figure:
        """Write the drawing of a cell, with ``title`` above it in the files. ``latencies``: of the blocks of a chain."""
        atomic.write_bytes(self.folder / f"{name}.svg", cell_svg(cell, title, latencies=latencies).encode())
        cell_png(cell, self.folder / f"{name}.png", title, latencies=latencies)
        return inline_cell(cell, caption, latencies)

    def network(self, name: str, network: Sequence[Mapping[str, Any]], caption: str) -> Figure:
        """Write the overview of a network, see `oche.report.drawings.network`."""
        atomic.write_bytes(self.folder / f"{name}.svg", network_svg(network, caption).encode())
        network_png(network, self.folder / f"{name}.png", caption)
        return Figure(network_svg(network, background=None), caption, wide=True)


def inline_cell(cell: Cell, caption: str, latencies: Latencies | None = None) -> Figure:
    """Return the drawing of a cell for the page, without writing files."""
    return Figure(cell_svg(cell, background=None, latencies=latencies), caption)


def side_by_side(figures: list[Figure]) -> list[Item]:
    """Put ``figures`` into a row, or below one another where one is too wide for half a page."""
    if max(figure.width for figure in figures) > 600:
        return [replace(figure, wide=True) for figure in figures]
    return [Row(figures)]
