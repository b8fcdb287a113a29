"""The pictures of a report: each written as SVG and PNG, and kept as SVG to inline into the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arch import Cell
from ..run import atomic
from . import canvas
from .cells import cell_png, cell_svg, scene
from .network import network_png, network_scene, network_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A picture in the page: SVG text, caption, and its natural width in pixels."""

    svg: str
    caption: str
    width: int


class Album:
    """Writes pictures to disk and keeps their inline form."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def plot(self, name: str, figure: Figure, caption: str) -> Picture:
        text = canvas.svg(figure)
        atomic.write_bytes(self.folder / f"{name}.svg", text.encode())
        if figure.get_layout_engine():  # it has done its work, which takes longer than the drawing
            figure.set_layout_engine("none")
        atomic.write_bytes(self.folder / f"{name}.png", canvas.png(figure))
        width = round(96 * figure.get_size_inches()[0])
        return Picture(canvas.inline(text, f"{name}-", caption), caption, width)

    def cell(self, name: str, cell: Cell, title: str, caption: str) -> Picture:
        atomic.write_bytes(self.folder / f"{name}.svg", cell_svg(cell, title).encode())
        cell_png(cell, self.folder / f"{name}.png", title)
        return inline_cell(cell, caption)

    def network(self, name: str, network: Sequence[Mapping[str, Any]], caption: str) -> Picture:
        atomic.write_bytes(self.folder / f"{name}.svg", network_svg(network, caption).encode())
        network_png(network, self.folder / f"{name}.png", caption)
        return Picture(network_svg(network, background=None), caption, round(network_scene(network).width))


def inline_cell(cell: Cell, caption: str) -> Picture:
    """A cell for the page alone, without files."""
    return Picture(cell_svg(cell, background=None), caption, round(scene(cell).width))
