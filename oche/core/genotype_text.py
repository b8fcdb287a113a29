"""The text form of genotypes: ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=...)``.

In the published form a cell is a list of (operation, source) pairs. Each node of a convolutional cell owns two consecutive pairs,
each node of a recurrent cell one, so the position of a pair gives its target node. A cell that does not fit this pattern is
written as triples, with the target node as a third entry.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from oche.core.errors import OcheError

Edges = tuple[tuple[str, int, int], ...]  # (operation, source node, target node)
Concat = tuple[int, ...]  # nodes whose states form the cell's output

_EXAMPLE = "write Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=..., reduce_concat=...)"
_MOST_CHARACTERS = 100_000


def _concat_key(cell: str) -> str:
    """Return the keyword that lists the output nodes of ``cell``."""
    return "concat" if cell == "recurrent" else f"{cell}_concat"


def _layout(cell: str) -> tuple[int, int]:
    """Return (pairs per node, input nodes), which the published form assumes for ``cell``."""
    return (1, 1) if cell == "recurrent" else (2, 2)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_cells(cells: Mapping[str, tuple[Edges, Concat]]) -> str:
    """Return the text of the (edges, output nodes) of each cell, by name."""
    parts = []
    for name, (edges, concat) in cells.items():
        with_target = not _positions_give_targets(name, edges)
        items = ", ".join(str(edge if with_target else edge[:2]) for edge in edges)
        parts += [f"{name}=[{items}]", f"{_concat_key(name)}={_nodes_text(concat)}"]
    return f"Genotype({', '.join(parts)})"


def _positions_give_targets(name: str, edges: Edges) -> bool:
    per_node, inputs = _layout(name)
    fits = all(target == inputs + i // per_node for i, (_, _, target) in enumerate(edges))
    return fits and not len(edges) % per_node


def _nodes_text(nodes: Concat) -> str:
    contiguous = nodes == tuple(range(nodes[0], nodes[-1] + 1))
    return f"range({nodes[0]}, {nodes[-1] + 1})" if contiguous else str(list(nodes))


# --- parsing: nothing is evaluated ------------------------------------------------------------------------------------


def parse_cells(text: str) -> Iterator[tuple[str, Edges, Concat]]:
    """Yield (name, edges, output nodes) of each cell that ``text`` describes. Raises `OcheError` for any other text."""
    fields = _keywords(text)
    names = [k for k in fields if k != "concat" and not k.endswith("_concat")]
    for name in names:
        if (key := _concat_key(name)) not in fields:
            raise OcheError(f"genotype has {name}= but no {key}=; add it, for example {key}=range(2, 6)")
        yield name, _edges(name, fields[name]), _concat(key, fields[key])
    if stray := [k for k in fields if k not in names and k not in map(_concat_key, names)]:
        raise OcheError(f"genotype has {stray[0]}= without the cell it belongs to")
    if not names:
        raise OcheError(f"genotype names no cell: {_abbreviated(text)}")


def _keywords(text: str) -> dict[str, ast.expr]:
    """Return the expression of each keyword in ``Genotype(name=…, …)``."""
    if len(text) > _MOST_CHARACTERS:
        raise OcheError(f"genotype text has {len(text)} characters, more than any cell needs; {_EXAMPLE}")
    # Genotype files of the published code assign to a name; only the right-hand side is read.
    try:
        node = ast.parse(re.sub(r"^\s*\w+\s*=\s*(?=Genotype)", "", text).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise OcheError(f"not a genotype: {_abbreviated(text)}; {_EXAMPLE}") from None
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Genotype"):
        raise OcheError(f"not a genotype: {_abbreviated(text)}; {_EXAMPLE}")
    names = [k.arg for k in node.keywords]
    if node.args or None in names or len(set(names)) != len(names):
        raise OcheError(f"a genotype takes each cell once and by name: {_abbreviated(text)}; {_EXAMPLE}")
    return {str(k.arg): k.value for k in node.keywords}


def _edges(name: str, node: ast.expr) -> Edges:
    """Return the edges that the list after ``name=`` describes, with their target nodes."""
    per_node, inputs = _layout(name)
    value = _literal(name, node)
    if not isinstance(value, list | tuple):
        raise OcheError(f"genotype: {name}= is {type(value).__name__}; write a list of ('operation', source) pairs")
    edges = []
    for i, item in enumerate(value):
        ok = isinstance(item, list | tuple) and len(item) in (2, 3) and isinstance(item[0], str)
        if not ok or not all(type(n) is int for n in item[1:]):
            raise OcheError(f"genotype: {name}[{i}] is {_abbreviated(str(item))}; write ('operation', source)")
        edges.append((item[0], item[1], item[2] if len(item) == 3 else inputs + i // per_node))
    if len({len(item) for item in value}) > 1:
        raise OcheError(f"genotype: {name}= mixes pairs and triples; give every edge its target node, or none")
    if value and len(value[0]) == 2 and len(value) % per_node:
        raise OcheError(
            f"genotype: {name}= has {len(value)} pairs; each node takes {per_node}, so write an even number"
        )
    return tuple(edges)


def _concat(key: str, node: ast.expr) -> Concat:
    """Return the output nodes that ``range(…)`` or the list after ``key=`` names."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        bounds = [b for b in (_literal(key, a) for a in node.args) if type(b) is int and 0 <= b < 1000]
        if 1 <= len(bounds) == len(node.args) <= 2 and not node.keywords:
            return tuple(range(*bounds))
        raise OcheError(f"genotype: {key}={_source(node)}; write range(2, 6)")
    value = _literal(key, node)
    if not isinstance(value, list | tuple) or not all(type(n) is int for n in value):
        raise OcheError(f"genotype: {key}={_abbreviated(str(value))}; write range(2, 6) or a list of node numbers")
    return tuple(value)


def _literal(key: str, node: ast.expr) -> object:
    """Return the value of a literal expression. Raises `OcheError` for any other expression."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError, SyntaxError):
        raise OcheError(
            f"genotype: {key}= is not a plain list: {_source(node)}; write lists, tuples, strings and integers"
        ) from None


def _source(node: ast.expr) -> str:
    try:
        return _abbreviated(ast.unparse(node))
    except RecursionError:
        return "a deeply nested expression"


def _abbreviated(text: str) -> str:
    """Return ``text`` quoted, on one line, cut to 60 characters."""
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 60 else flat[:57] + "...")
