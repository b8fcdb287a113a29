"""A chain of blocks as a strip: kernel, expansion, width, stride and, where known, the latency of each block; SVG and text.

The colour of a block is its kernel, its height grows with its expansion. A bar below it is as high as the block is slow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from oche.core.architecture import NONE, Cell
from oche.core.blocks import Block, cell_blocks
from oche.report.drawings.scene import Box, Curve, Label, Scene, Shape, clip
from oche.report.plots.style import BLUE, GREEN, GREY, INK, MUTED, PAPER, PURPLE, VERMILION, tint

_WIDTH, _GAP, _MARGIN, _TALLEST, _BAR, _PER_ROW = 62.0, 12.0, 16.0, 66.0, 30.0, 12
_COLOURS = {1: GREY, 3: BLUE, 5: VERMILION, 7: GREEN}  # by kernel
_MARK = "✱"  # before blocks that are emphasised, see `oche.report.drawings.cell.MARK`

Latencies = Mapping[int, float]  # node of a block → its milliseconds


class Link(NamedTuple):
    """A block of a chain, or None for a layer left out; ``node`` is its number in the genotype."""

    node: int
    block: Block | None
    marked: bool = False


def chain_links(cell: Cell) -> list[Link] | None:
    """Return the blocks of a ``cell`` that is a chain; None if it is another kind of cell."""
    marked = [op.startswith(_MARK) for op, _, _ in cell.edges]
    plain = tuple((op.removeprefix(_MARK).strip(), i, j) for op, i, j in cell.edges)
    blocks = cell_blocks(Cell(plain, cell.concat))
    if blocks is None:
        return None
    return [Link(node, block, mark) for node, (block, mark) in enumerate(zip(blocks, marked, strict=True), 1)]


def chain_scene(links: Sequence[Link], title: str = "", latencies: Latencies | None = None) -> Scene:
    """Draw the blocks in reading order, in rows of equal length."""
    known = latencies or {}
    rows = -(-len(links) // _PER_ROW)
    per_row = -(-len(links) // rows)
    height = _TALLEST + 30 + (_BAR + 14 if known else 0)
    top = _MARGIN + (26 if title else 0)
    width = 2 * _MARGIN + per_row * (_WIDTH + _GAP) - _GAP
    shapes: list[Shape] = [Label(width / 2, 17, clip(title, int(width / 8)), 13, INK, bold=True)] if title else []
    slowest = max(known.values(), default=1.0)
    for i, link in enumerate(links):
        row, column = divmod(i, per_row)
        x, base = _MARGIN + column * (_WIDTH + _GAP), top + row * height + _TALLEST
        if i:
            left = x - _GAP if column else x - _MARGIN / 2
            shapes.append(Curve(((left, base - 13), (x, base - 13)), MUTED, arrow=link.block is not None))
        shapes += _block(link, x, base)
        if (ms := known.get(link.node)) is not None:
            shapes += _bar(ms, slowest, x, base + 16)
    names = ", ".join(NONE if link.block is None else link.block.name for link in links)
    return Scene(width, top + rows * height, tuple(shapes), f"{title or 'chain'}: {names}")


def _block(link: Link, x: float, base: float) -> list[Shape]:
    """Draw a block that stands on the line ``base``, its width written below it."""
    middle, block = x + _WIDTH / 2, link.block
    if block is None:
        tip = f"layer {link.node}: left out"
        return [Box(x, base - 26, _WIDTH, 26, PAPER, GREY, 5, tip), Label(middle, base - 13, "–", 11.5, MUTED)]
    colour = _COLOURS.get(block.kernel, PURPLE)
    height = 26 + (_TALLEST - 30) * min(1.0, (block.expansion - 1) / 5)
    tip = f"layer {link.node}: {block.name}"
    shapes: list[Shape] = [
        Box(x, base - height, _WIDTH, height, tint(colour, 0.5 if link.marked else 0.22), colour, 5, tip),
        Label(middle, base - height / 2, clip(f"{_MARK} {block.short}" if link.marked else block.short, 10), 10.5, INK),
        Label(middle, base + 9, f"{block.channels}", 9.5, MUTED),
    ]
    if block.stride > 1:
        shapes.append(Label(x + _WIDTH - 11, base + 9, f"/{block.stride}", 9.5, colour, bold=True))
    return shapes


def _bar(ms: float, slowest: float, x: float, top: float) -> list[Shape]:
    """Draw the latency of a block as a bar below it, with its milliseconds."""
    height = max(1.0, _BAR * ms / slowest)
    return [
        Box(x + 8, top, _WIDTH - 16, height, tint(GREY, 0.5), GREY, 1, f"{ms:.3g} ms"),
        Label(x + _WIDTH / 2, top + height + 7, f"{ms:.2g} ms", 8.5, MUTED),
    ]


def chain_text(links: Sequence[Link], width: int = 80, latencies: Latencies | None = None) -> str:
    """Return the strip as text: a line for each block with kernel, expansion, stride, channels and latency.

    A bar shows the expansion, or the latency where it is known.
    """
    known = latencies or {}
    largest = (
        max(known.values(), default=0.0) if known else max(link.block.expansion if link.block else 1 for link in links)
    )
    lines = [f"{'':>3}  {'block':<10} {'stride':>6} {'channels':>8}" + (f" {'ms':>8}" if known else "")]
    for link in links:
        block, ms = link.block, known.get(link.node)
        if block is None:
            lines.append(f"{link.node:>3}  –")
            continue
        name = f"{_MARK} {block.short}" if link.marked else block.short
        stride = str(block.stride) if block.stride > 1 else ""
        line = f"{link.node:>3}  {clip(name, 10):<10} {stride:>6} {block.channels or '':>8}"
        share = (ms if known else block.expansion) or 0.0
        if known:
            line += f" {'' if ms is None else f'{ms:.3g}':>8}"
        bar = "█" * round((width - len(line) - 3) * min(share / (largest or 1.0), 1.0) / (1 if known else 3))
        lines.append(f"{line}  {bar}".rstrip())
    if known:
        whole = all(link.node in known for link in links if link.block is not None)
        lines.append(f"{'':>3}  {'sum' if whole else 'known':<10} {'':>6} {'':>8} {sum(known.values()):>8.3g}")
    return "\n".join(lines)
