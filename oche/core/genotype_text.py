"""The text form of genotypes: ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=...)``.

In the published form a cell is a list of (operation, source) pairs. Each node of a convolutional cell owns two consecutive pairs,
each node of a recurrent cell one, so the position of a pair gives its target node. A cell that does not fit this pattern is
written as triples, with the target node as a third entry. A list of operations alone is a chain, in which each follows the one
before: ``Genotype(chain=['conv_k3_s2_c32', 'mb_k3_e1_c16', ...])``. Other codes write one list for each node, put the target
before the source, or add the weight of the operation; `read_edges` reads these too. Nothing is evaluated.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from oche.core.errors import OcheError

Edges = tuple[tuple[str, int, int], ...]  # (operation, source node, target node)
Concat = tuple[int, ...]  # nodes whose states form the cell's output
Cells = dict[str, tuple[Edges, Concat]]

EXAMPLE = "write Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=..., reduce_concat=...)"
MOST_CHARACTERS = 100_000  # of one genotype

CHAIN = "chain"  # the name of the cell of a network whose blocks follow one another

_INPUTS = {"recurrent": 1, "cell": 1, CHAIN: 1}  # input nodes of the cells that have not two
_UNUSED = (
    "connectN",
    "connects",
)  # further fields of the genotypes of AutoDL-Projects; None wherever cells are complete


def concat_key(cell: str) -> str:
    """Return the keyword that lists the output nodes of ``cell``."""
    return "concat" if cell == "recurrent" else f"{cell}_concat"


def _layout(cell: str) -> tuple[int, int]:
    """Return (pairs per node, input nodes), which the published form assumes for ``cell``."""
    return (1, 1) if cell == "recurrent" else (2, 2)


def canonical(edges: Edges, concat: Concat) -> tuple[Edges, Concat]:
    """Return (edges, output nodes) in one order for all ways to write a cell.

    The state of a node is a sum, so the order of its inputs means nothing. The order of the output nodes only permutes the
    channels that the next layer reads.
    """
    return tuple(sorted(edges, key=lambda edge: (edge[2], edge[1], edge[0]))), tuple(sorted(concat))


# --- writing ----------------------------------------------------------------------------------------------------------


def write_cells(cells: Mapping[str, tuple[Edges, Concat]]) -> str:
    """Return the text of the (edges, output nodes) of each cell, by name."""
    parts = []
    for name, (edges, concat) in cells.items():
        if name == CHAIN and _is_path(edges, concat):
            parts.append(f"{name}={[op for op, _, _ in edges]}")
            continue
        with_target = not _positions_give_targets(name, edges)
        items = ", ".join(str(edge if with_target else edge[:2]) for edge in edges)
        parts += [f"{name}=[{items}]", f"{concat_key(name)}={_nodes_text(concat)}"]
    return f"Genotype({', '.join(parts)})"


def _positions_give_targets(name: str, edges: Edges) -> bool:
    per_node, inputs = _layout(name)
    fits = all(target == inputs + i // per_node for i, (_, _, target) in enumerate(edges))
    return fits and not len(edges) % per_node


def _is_path(edges: Edges, concat: Concat) -> bool:
    """Whether each node has one edge, from the node before it, and the last node is the output."""
    return [edge[1:] for edge in edges] == [(i, i + 1) for i in range(len(edges))] and concat == (len(edges),)


def _nodes_text(nodes: Concat) -> str:
    contiguous = nodes == tuple(range(nodes[0], nodes[-1] + 1))
    return f"range({nodes[0]}, {nodes[-1] + 1})" if contiguous else str(list(nodes))


# --- reading one genotype ---------------------------------------------------------------------------------------------


def read_call(call: ast.Call, text: str) -> Cells:
    """Return the cells of ``call``, the syntax tree of ``Genotype(...)``. ``text`` is its source. Raises `OcheError`."""
    fields: dict[str, Any] = {}
    for name, node in _arguments(call, text).items():
        fields[name] = _nodes_of(name, node) if _is_concat(name) else _literal(name, node)
    return read_fields(fields, text)


def read_fields(fields: Mapping[str, Any], text: str) -> Cells:
    """Return the cells of ``fields``: plain values by keyword, cells and their output nodes. Raises `OcheError`."""
    if found := [name for name in _UNUSED if fields.get(name) is not None]:
        raise OcheError(
            f"genotype: {found[0]}={abbreviated(str(fields[found[0]]))} is not understood; write {found[0]}=None"
        )
    names = [k for k in fields if not _is_concat(k) and k not in _UNUSED]
    cells: Cells = {}
    for name in names:
        if name == CHAIN and (path := _read_path(fields[name])) is not None:
            cells[name] = path
            continue
        if (key := concat_key(name)) not in fields:
            raise OcheError(f"genotype has {name}= but no {key}=; add it, for example {key}=range(2, 6)")
        cells[name] = read_edges(name, fields[name]), _read_concat(key, fields[key])
    if stray := [k for k in fields if _is_concat(k) and k not in map(concat_key, names)]:
        raise OcheError(f"genotype has {stray[0]}= without the cell it belongs to")
    if not names:
        raise OcheError(f"genotype names no cell: {abbreviated(text)}")
    return cells


def _is_concat(keyword: str) -> bool:
    return keyword == "concat" or keyword.endswith("_concat")


def _read_path(value: object) -> tuple[Edges, Concat] | None:
    """Return edges and output of a list of operations alone, which follow one another; None for any other value."""
    if not isinstance(value, list | tuple) or not value or not all(isinstance(op, str) for op in value):
        return None
    return tuple((op, i, i + 1) for i, op in enumerate(value)), (len(value),)


def _arguments(call: ast.Call, text: str) -> dict[str, ast.expr]:
    """Return the expressions of the arguments by keyword. Arguments without one have the order of the published tuple."""
    in_order = {4: ("normal", "normal_concat", "reduce", "reduce_concat"), 2: ("recurrent", "concat")}
    places = in_order.get(len(call.args), ()) if not call.keywords else ()
    names = [k.arg for k in call.keywords]
    if len(places) != len(call.args) or None in names or len(set(names)) != len(names):
        raise OcheError(f"a genotype takes each cell once and by name: {abbreviated(text)}; {EXAMPLE}")
    return dict(zip(places, call.args, strict=True)) | {str(k.arg): k.value for k in call.keywords}


# --- the edges of a cell ----------------------------------------------------------------------------------------------


def read_edges(name: str, value: object) -> Edges:
    """Return the edges that ``value``, the list of the cell ``name``, describes, with their target nodes.

    Edges are (operation, source), (operation, source, target), (operation, target, source) or (operation, source, weight). They
    stand in one list, or in a list for each node. Raises `OcheError` for anything else.
    """
    if not isinstance(value, list | tuple):
        raise OcheError(f"genotype: {name}= is {type(value).__name__}; write a list of ('operation', source) pairs")
    if value and all(_is_node(item) for item in value):
        return _edges_by_node(name, value)
    per_node, inputs = _layout(name)
    items = [_item(f"{name}[{i}]", item) for i, item in enumerate(value)]
    if len({len(numbers) for _, numbers in items}) > 1:
        raise OcheError(f"genotype: {name}= mixes pairs and triples; give every edge its target node, or none")
    if items and len(items[0][1]) == 2:
        return _oriented(name, items)
    if len(items) % per_node:
        raise OcheError(
            f"genotype: {name}= has {len(items)} pairs; each node takes {per_node}, so write an even number"
        )
    return tuple((op, numbers[0], inputs + i // per_node) for i, (op, numbers) in enumerate(items))


def _is_node(item: object) -> bool:
    """Whether ``item`` is the list of the edges of one node, not an edge itself."""
    return isinstance(item, list | tuple) and all(isinstance(edge, list | tuple) for edge in item)


def _edges_by_node(name: str, nodes: list | tuple) -> Edges:
    """Return the edges of a cell that is written as one list for each node."""
    first, edges = _INPUTS.get(name, 2), []
    for i, node in enumerate(nodes):
        for k, edge in enumerate(node):
            op, numbers = _item(f"{name}[{i}][{k}]", edge)
            if len(numbers) == 2 and max(numbers) != first + i:
                raise OcheError(
                    f"genotype: {name}[{i}][{k}] is {abbreviated(str(edge))}, but list {i} belongs to node {first + i}; "
                    "write ('operation', source)"
                )
            edges.append((op, min(numbers), first + i))
    return tuple(edges)


def _item(place: str, item: object) -> tuple[str, tuple[int, ...]]:
    """Return the operation of one edge, and its one or two node numbers. The weight of an operation is left out."""
    entries = list(item) if isinstance(item, list | tuple) else []
    ops = [entry for entry in entries if isinstance(entry, str)]
    nodes = tuple(entry for entry in entries if type(entry) is int)
    weights = [entry for entry in entries if type(entry) is float and 0 < entry < 1]
    whole = len(ops) == 1 and len(ops) + len(nodes) + len(weights) == len(entries)
    if not whole or (len(nodes), len(weights)) not in ((1, 0), (2, 0), (1, 1)):
        raise OcheError(f"genotype: {place} is {abbreviated(str(item))}; write ('operation', source)")
    return ops[0], nodes


def _oriented(name: str, items: list[tuple[str, tuple[int, ...]]]) -> Edges:
    """Return edges from triples. A source comes before its target, so its number tells which entry it is."""
    backwards = [source > target for _, (source, target) in items]
    if any(backwards) and not all(backwards):
        raise OcheError(
            f"genotype: {name}= names the source first in some triples and the target first in others; "
            "write ('operation', source, target)"
        )
    return tuple((op, b, a) if backwards[0] else (op, a, b) for op, (a, b) in items)


# --- plain values from syntax trees -----------------------------------------------------------------------------------


def _nodes_of(key: str, node: ast.expr) -> object:
    """Return the value of ``range(…)``, ``list(range(…))`` or a list after ``key=``, as plain values."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("list", "tuple"):
        inner = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if isinstance(inner, ast.Call):
            return _nodes_of(key, inner)
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"):
        return _literal(key, node)
    bounds = [b for b in (_literal(key, a) for a in node.args) if type(b) is int and 0 <= b < 1000]
    if 1 <= len(bounds) == len(node.args) <= 2 and not node.keywords:
        return tuple(range(*bounds))
    raise OcheError(f"genotype: {key}={_source(node)}; write range(2, 6)")


def _read_concat(key: str, value: object) -> Concat:
    """Return the output nodes that ``value`` lists."""
    if not isinstance(value, list | tuple) or not all(type(n) is int for n in value):
        raise OcheError(f"genotype: {key}={abbreviated(str(value))}; write range(2, 6) or a list of node numbers")
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
        return abbreviated(ast.unparse(node))
    except RecursionError:
        return "a deeply nested expression"


def abbreviated(text: str) -> str:
    """Return ``text`` quoted, on one line, cut to 60 characters."""
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 60 else flat[:57] + "...")
