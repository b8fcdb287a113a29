"""The pictures of a report: each written as SVG and PNG, and kept as SVG to inline into the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oche.core import atomic_files as atomic
from oche.core.architecture import Cell
from oche.report.drawings.cell import cell_png, cell_svg
from oche.report.drawings.network import network_png, network_svg
from oche.report.html.page import Figure
from oche.report.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


class Album:
    """Writes pictures to disk and keeps their inline form."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def plot(self, name: str, drawing: Drawing, caption: str, wide: bool = False) -> Figure:
        text = style.svg(drawing)
        atomic.write_bytes(self.folder / f"{name}.svg", text.encode())
        if drawing.get_layout_engine():  # it has done its work, which takes longer than the drawing
            drawing.set_layout_engine("none")
        atomic.write_bytes(self.folder / f"{name}.png", style.png(drawing))
        return Figure.of(drawing, caption, name, wide, text)

    def cell(self, name: str, cell: Cell, title: str, caption: str) -> Figure:
        atomic.write_bytes(self.folder / f"{name}.svg", cell_svg(cell, title).encode())
        cell_png(cell, self.folder / f"{name}.png", title)
        return inline_cell(cell, caption)

    def network(self, name: str, network: Sequence[Mapping[str, Any]], caption: str) -> Figure:
        atomic.write_bytes(self.folder / f"{name}.svg", network_svg(network, caption).encode())
        network_png(network, self.folder / f"{name}.png", caption)
        return Figure(network_svg(network, background=None), caption, wide=True)


def inline_cell(cell: Cell, caption: str) -> Figure:
    """A cell for the page alone, without files."""
    return Figure(cell_svg(cell, background=None), caption)
