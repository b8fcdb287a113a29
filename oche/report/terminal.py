"""Cells drawn with box characters, for the terminal."""

from __future__ import annotations

from oche.core.architecture import Cell, Genotype, cell_title
from oche.report.drawings.cell import PREVIOUS, cell_names
from oche.report.drawings.chain import Latencies, chain_links, chain_text
from oche.report.drawings.scene import clip, columns


def cell_text(
    cell: Cell, width: int = 80, inputs: tuple[str, ...] = PREVIOUS, latencies: Latencies | None = None
) -> str:
    """Return a cell as text: one small tree for each node, side by side as far as ``width`` columns allow.

        c_{k-2} ── sep_conv_3x3 ─┐
        c_{k-1} ── sep_conv_3x3 ─┴▶ 2

    Where a single tree is too wide, each node is written as an equation, "2 = sep_conv_3x3(0) + …". A chain of blocks has a
    line for each block (`oche.report.drawings.chain.chain_text`), with its latency where ``latencies`` has it.
    """
    if (links := chain_links(cell)) is not None:
        return chain_text(links, width, latencies)
    ends = cell_names(cell, inputs)
    names = _names(cell, ends.inputs)
    trees = [_tree(cell, node, names) for node in cell.nodes]
    tree_width = max(columns(line) for tree in trees for line in tree)
    output = f"{ends.joins}({', '.join(str(n) for n in cell.concat)})" if ends.joins else f"node {ends.node}"
    if tree_width > width:
        return "\n".join(_equations(cell, width) + _wrap("output = ", output.split(" "), width))
    across = max(1, min(2 if len(trees) < 5 else 3, (width + 4) // (tree_width + 4)))
    lines = []
    for first in range(0, len(trees), across):
        row = trees[first : first + across]
        height = max(len(tree) for tree in row)
        padded = [[" " * tree_width] * (height - len(tree)) + [_pad(line, tree_width) for line in tree] for tree in row]
        lines += ["    ".join(parts).rstrip() for parts in zip(*padded, strict=True)]
        lines += [""] * (height > 1 or first + across >= len(trees))
    return "\n".join(lines + _wrap("", [*output.split(" "), "─▶", ends.output], width))


def _names(cell: Cell, inputs: tuple[str, ...]) -> list[str]:
    last = max(max(cell.nodes), cell.inputs)
    return [clip(inputs[i], 12) if i < cell.inputs else str(i) for i in range(last + 1)]


def _tree(cell: Cell, node: int, names: list[str]) -> list[str]:
    """Return the incoming edges of a node, one on each line, joined to the node's number on the last line."""
    incoming = [(op, source) for op, source, target in cell.edges if target == node]
    left = max(columns(name) for name in names)
    middle = max(columns(op) for op, _, _ in cell.edges)
    lines = []
    for i, (op, source) in enumerate(incoming):
        name = " " * (left - columns(names[source])) + names[source]
        fill = "─" * (middle - columns(op))
        only, last = len(incoming) == 1, i == len(incoming) - 1
        joint = "─" if only else "┴" if last else "┐" if i == 0 else "┤"
        lines.append(f"{name} ── {op} {fill}─{joint}" + (f"▶ {node}" if last else ""))
    return lines


def _equations(cell: Cell, width: int) -> list[str]:
    lines = []
    for node in cell.nodes:
        terms = [f"{op}({source})" for op, source, target in cell.edges if target == node]
        words = [word for i, term in enumerate(terms) for word in (["+", term] if i else [term])]
        lines += _wrap(f"{node} = ", words, width)
    return lines


def _wrap(head: str, words: list[str], width: int) -> list[str]:
    """Write ``words`` after ``head``, in lines of at most ``width`` columns unless a word is longer."""
    lines, indent = [head], " " * max(2, columns(head))
    for i, word in enumerate(words):
        space = " " if i and lines[-1].strip() and not lines[-1].endswith(" ") else ""
        if i and columns(lines[-1] + space + word) > width:
            lines.append(indent + word)
        else:
            lines[-1] += space + word
    return lines


def _pad(line: str, width: int) -> str:
    return line + " " * (width - columns(line))


def genotype_text(genotype: Genotype, width: int = 80, latencies: Latencies | None = None) -> str:
    """Return all cells of a genotype as text, each under its name. ``latencies``: of the blocks of a chain."""
    parts = []
    for name, cell in genotype.cells.items():
        head = cell_title(name)
        parts.append(f"{head}\n{'─' * min(width, columns(head))}\n{cell_text(cell, width, latencies=latencies)}")
    return "\n\n".join(parts)
