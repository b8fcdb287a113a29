"""Overview of a network: stem, cells by kind with channels and map size, head (the seed's Figures 4 and 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oche.report.drawings.scene import Box, Curve, Label, Scene, Shape, clip, to_png, to_svg
from oche.report.plots.style import BLUE, GREEN, GREY, INK, MUTED, PAPER, PURPLE, VERMILION, tint

_WIDTH, _HEIGHT, _GAP, _ROW_GAP, _MARGIN = 98.0, 50.0, 22.0, 32.0, 18.0
_PER_ROW = 7
_COLOURS = {"normal": BLUE, "reduce": VERMILION, "head": GREEN, "auxiliary": PURPLE}


def network_scene(network: Sequence[Mapping[str, Any]], title: str = "") -> Scene:
    """Draw the blocks in reading order, wrapped into rows of equal length; an auxiliary head is below the cell that it reads.

    Each entry has "name", and where known "channels" and "size" (height, width). An auxiliary entry follows the cell that it
    reads; one at the end of the list is taken to read the last reduction cell, as in the published networks.
    """
    blocks, branches = _split(network)
    rows = -(-len(blocks) // _PER_ROW)
    per_row = -(-len(blocks) // rows) if rows else 1
    top = _MARGIN + (26.0 if title else 0.0)
    width = 2 * _MARGIN + per_row * (_WIDTH + _GAP) - _GAP
    shapes: list[Shape] = [Label(width / 2, 18, clip(title, 60), 13, INK, bold=True)] if title else []
    y, number, corners = top, 0, []
    for row in range(rows):
        indices = range(row * per_row, min((row + 1) * per_row, len(blocks)))
        corners += [(_MARGIN + column * (_WIDTH + _GAP), y) for column in range(len(indices))]
        y += _HEIGHT + _ROW_GAP
        if any(i in branches for i in indices):
            y += _HEIGHT + 8
    for i, (block, (x, at)) in enumerate(zip(blocks, corners, strict=True)):
        shapes += _arrow(corners[i - 1], (x, at)) if i else []
        is_cell = block.get("name") in ("normal", "reduce")
        number += is_cell
        shapes += _block(block, x, at, number if is_cell else None)
        if i in branches:
            below = at + _HEIGHT + 18
            shapes.append(
                Curve(((x + _WIDTH / 2, at + _HEIGHT), (x + _WIDTH / 2, below)), MUTED, arrow=True, vertical=True)
            )
            shapes += _block(branches[i], x, below, None)
    names = ", ".join(str(b.get("name", "?")) for b in blocks)
    return Scene(width, y - _ROW_GAP + _MARGIN, tuple(shapes), f"{title or 'network'}: {names}")


def _split(network: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], dict[int, Mapping[str, Any]]]:
    """Return the blocks of the main path, and the auxiliary head by the index of the block that it reads."""
    blocks, branches = [], {}
    for i, entry in enumerate(network):
        if entry.get("name") != "auxiliary":
            blocks.append(entry)
            continue
        reductions = [j for j, b in enumerate(blocks) if b.get("name") == "reduce"]
        last = i == len(network) - 1 and blocks and blocks[-1].get("name") == "head"
        host = (reductions[-1] if reductions else len(blocks) - 2) if last else len(blocks) - 1
        branches[max(host, 0)] = entry
    return blocks, branches


def _block(block: Mapping[str, Any], x: float, y: float, number: int | None) -> list[Shape]:
    name = str(block.get("name", "?"))
    colour = _COLOURS.get(name, GREY)
    text = clip(f"{number} {name}" if number else name, 12)
    lines = [Label(x + _WIDTH / 2, y + _HEIGHT / 2, text, 11.5, INK, bold=name == "reduce")]
    if detail := _detail(block):
        lines = [Label(x + _WIDTH / 2, y + 17, text, 11.5, INK, bold=name == "reduce")]
        lines.append(Label(x + _WIDTH / 2, y + 34, clip(detail, 16), 9.5, "#3c434c"))
    return [Box(x, y, _WIDTH, _HEIGHT, tint(colour, 0.22), colour, 6, tip=f"{name} {detail}".strip()), *lines]


def _detail(block: Mapping[str, Any]) -> str:
    """Write channels and map size, as far as they are known: "48 ch · 32×32"."""
    size = block.get("size")
    sides = "×".join(str(side) for side in size) if isinstance(size, list | tuple) else ""
    channels = block.get("channels")
    return " · ".join(part for part in (f"{channels} ch" if channels else "", sides) if part)


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> list[Shape]:
    """Draw an arrow from the right side of one block to the left side of the next, or to the top of the first in the next row."""
    (x0, y0), (x1, y1) = start, end
    if y0 == y1:
        return [Curve(((x0 + _WIDTH, y0 + _HEIGHT / 2), (x1, y1 + _HEIGHT / 2)), MUTED, arrow=True)]
    out, down, turn = x0 + _WIDTH, x1 + _WIDTH / 2, y1 - _ROW_GAP / 2
    corner = out + _MARGIN / 2  # beside the column, where an auxiliary head may hang
    middle = y0 + _HEIGHT / 2
    path = ((out, middle), (corner, middle), (corner, turn), (down, turn), (down, y1))
    return [Curve(path, MUTED, arrow=True, vertical=True)]


def network_svg(network: Sequence[Mapping[str, Any]], title: str = "", background: str | None = PAPER) -> str:
    """Return the overview as SVG text; ``network`` is the entry "network" of a run's space.json."""
    return to_svg(network_scene(network, title), background)


def network_png(network: Sequence[Mapping[str, Any]], path: Path | str, title: str = "") -> None:
    """Write the same drawing as a PNG file."""
    to_png(network_scene(network, title), Path(path))
