"""Genotypes in JSON, as other tools write them: mappings from the name of a choice, a node or a cell to what was chosen.

- NNI before version 2.0: ``{"normal_n2_p0": "sepconv3x3", ..., "normal_n2_switch": ["normal_n2_p0", "normal_n2_p1"], ...}``;
- NNI from 2.0 on: ``{"normal/op_2_0": "sep_conv_3x3", "normal/input_2_0": [0], ...}``;
- NAS-Bench-201 in NNI: ``{"0_1": "conv_3x3", ...}``, and in the modules of AutoDL-Projects ``{"1<-0": "nor_conv_3x3", ...}``;
- AutoDL-Projects: ``{"normal": [[["sep_conv_3x3", 0], ["skip_connect", 1]], ...], "normal_concat": [2, 3, 4, 5], ...}``.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from oche.core.errors import OcheError
from oche.core.genotype_text import Cells, Concat, Edges, abbreviated, read_fields

NNI_OPERATIONS = {
    "maxpool": "max_pool_3x3", "avgpool": "avg_pool_3x3", "skipconnect": "skip_connect", "sepconv3x3": "sep_conv_3x3",
    "sepconv5x5": "sep_conv_5x5", "dilconv3x3": "dil_conv_3x3", "dilconv5x5": "dil_conv_5x5", "none": "none",
}  # fmt: skip
"""NNI's names of the operations of DARTS, in the order by which its exports number them."""

_BENCHMARK_OPERATIONS = {"conv_1x1": "nor_conv_1x1", "conv_3x3": "nor_conv_3x3"}  # NNI's names in NAS-Bench-201
_BENCHMARK_EDGES = tuple((i, j) for j in range(1, 4) for i in range(j))

_CHOICE = re.compile(r"(\w+?)_n(\d+)_(?:p(\d+)|switch)")
_HUB = re.compile(r"(\w+)/(op|input)_(\d+)_(\d+)")
_EDGE = re.compile(r"(?:\w+/)?(\d)_(\d)|(\d)<-(\d)")
_RANGE = re.compile(r"range\((\d{1,3}), *(\d{1,3})\)")  # in a Python literal
_SIZES = ("width", "depth")  # what NNI's hub writes beside the cells: the size of the network


def parse_python(text: str, mode: str = "exec") -> ast.AST | None:
    """Return the syntax tree of ``text``, or None if it is no Python. Warnings about its style are not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text, mode=mode)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def load_tree(text: str) -> Any:
    """Return the tree in ``text``, JSON or a Python literal, or None if it is neither. Nothing is evaluated."""
    if text[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError, MemoryError):
        pass
    lists = _RANGE.sub(lambda found: str([*range(int(found[1]), int(found[2]))]), text)
    tree = parse_python(lists, "eval")
    try:
        return None if tree is None else ast.literal_eval(tree)  # pyright: ignore[reportArgumentType]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def read_tree(tree: Any) -> Cells:
    """Return the cells of ``tree``, of one of the forms above. Raises `OcheError` for anything else."""
    if isinstance(tree, list | tuple):
        return _nodes_of_benchmark(tree)
    keys = [*map(str, tree)]
    if any(key in ("normal", "reduce", "recurrent", "cell") for key in keys):
        return read_fields({str(key): value for key, value in tree.items()}, str(tree))
    for pattern, read in ((_CHOICE, _choices), (_HUB, _hub), (_EDGE, _benchmark)):
        if any(pattern.fullmatch(key) for key in keys):
            known = [key for key in keys if pattern.fullmatch(key) or (read is _hub and key in _SIZES)]
            if strange := [key for key in keys if key not in known]:
                raise OcheError(
                    f"genotype in JSON: key {abbreviated(strange[0])} is not understood beside {known[0]!r}"
                )
            return read(tree)
    raise OcheError(
        f"genotype in JSON: no cell among the keys {abbreviated(', '.join(keys))}; write {{'normal': [...], "
        "'normal_concat': [...], 'reduce': ...}, or an export of NNI's search"
    )


# --- NNI --------------------------------------------------------------------------------------------------------------


def _choices(tree: Mapping[str, Any]) -> Cells:
    """Return the cells of an export of NNI before 2.0: an operation for each edge, and a switch that takes two of a node."""
    chosen: dict[str, dict[int, dict[int, str]]] = {}  # cell, node, source: operation
    switches: dict[tuple[str, int], Any] = {}
    for key, value in tree.items():
        cell, node, source = _matched(_CHOICE, key)
        sources = chosen.setdefault(cell, {}).setdefault(int(node), {})
        if source is None:
            switches[cell, int(node)] = value
        elif (op := _operation(key, value)) is not None:
            sources[int(source)] = op
    return {
        cell: _whole(cell, {n: _switched(f"{cell}_n{n}", ops, switches.get((cell, n))) for n, ops in nodes.items()})
        for cell, nodes in chosen.items()
    }


def _operation(key: str, value: Any) -> str | None:
    """Return the operation that ``value`` names, numbers or marks; None for an edge without one ([])."""
    names = [*NNI_OPERATIONS]
    if isinstance(value, list | tuple):
        if value and all(isinstance(on, bool) for on in value):
            value = [i for i, on in enumerate(value) if on]
        if len(value) > 1:
            raise OcheError(
                f"genotype in JSON: {key} has {len(value)} operations, {abbreviated(str(value))}; write one"
            )
        if not value:
            return None
        value = value[0]
    if type(value) is int and 0 <= value < len(names):
        value = names[value]
    if not isinstance(value, str):
        raise OcheError(f"genotype in JSON: {key} is {abbreviated(str(value))}; write the name of an operation")
    return NNI_OPERATIONS.get(value, value)


def _switched(node: str, ops: Mapping[int, str], switch: Any) -> dict[int, str]:
    """Return the operations of ``node`` on the edges that its ``switch`` takes, by source."""
    if switch is None:  # an export of the chosen edges alone
        if len(ops) != 2:
            raise OcheError(
                f"genotype in JSON: {node} has {len(ops)} operations and no {node}_switch that takes two of them"
            )
        return dict(ops)
    taken: list[Any] = [*switch] if isinstance(switch, list | tuple) else [switch]
    if taken and all(isinstance(on, bool) for on in taken):
        taken = [i for i, on in enumerate(taken) if on]
    sources = [int(s.rpartition("_p")[2]) if re.fullmatch(rf"{node}_p\d+", str(s)) else s for s in taken]
    if bad := [s for s in sources if type(s) is not int or s not in ops]:
        raise OcheError(
            f"genotype in JSON: {node}_switch takes {abbreviated(str(bad[0]))}, where {node} has no operation"
        )
    return {source: ops[source] for source in sources}


def _hub(tree: Mapping[str, Any]) -> Cells:
    """Return the cells of NNI's hub: operation and source of each input of a node, by number."""
    parts: dict[str, dict[int, dict[int, dict[str, Any]]]] = {}  # cell, node, input: {"op", "input"}
    for key, value in tree.items():
        if key not in _SIZES:
            cell, what, node, k = _matched(_HUB, key)
            parts.setdefault(cell, {}).setdefault(int(node), {}).setdefault(int(k), {})[what] = value
    return {
        cell: _with_outputs(
            cell, [_hub_edge(cell, n, k, given) for n, ks in sorted(nodes.items()) for k, given in sorted(ks.items())]
        )
        for cell, nodes in parts.items()
    }


def _hub_edge(cell: str, node: int, k: int, given: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return the ``k``-th edge into ``node``, of which ``given`` holds the operation and the source."""
    if missing := [what for what in ("op", "input") if what not in given]:
        raise OcheError(
            f"genotype in JSON: {cell}/{missing[0]}_{node}_{k} is missing; write operation and input of each edge"
        )
    op, source = given["op"], given["input"]
    source = source[0] if isinstance(source, list | tuple) and len(source) == 1 else source
    if type(source) is not int or not isinstance(op, str):
        raise OcheError(
            f"genotype in JSON: {cell}/input_{node}_{k} is {abbreviated(str(given['input']))} and its operation "
            f"{abbreviated(str(op))}; write the number of a node and a name"
        )
    return op, source, node


def _with_outputs(cell: str, edges: list[tuple[str, int, int]]) -> tuple[Edges, Concat]:
    """Return a cell of NNI's hub with its output: all nodes in the space of DARTS, which has four.

    With more nodes NASNet, AmoebaNet and ENAS give out the unused ones, PNAS all, and the file does not say which.
    """
    nodes = list(dict.fromkeys(target for _, _, target in edges))
    if len(nodes) > 4 and {*nodes} & {source for _, source, _ in edges}:
        raise OcheError(
            f"genotype in JSON: the cell {cell!r} has {len(nodes)} nodes, and the file does not say which are its output "
            "(NNI's NASNet, AmoebaNet and ENAS take the unused ones, PNAS takes all); write it as Genotype(...) with "
            "normal_concat= and reduce_concat="
        )
    return tuple(edges), _consecutive(cell, nodes)


def _whole(cell: str, nodes: Mapping[int, Mapping[int, str]]) -> tuple[Edges, Concat]:
    """Return the cell whose ``nodes`` have operations by source, all of them its output."""
    edges = tuple((op, source, n) for n, ops in sorted(nodes.items()) for source, op in ops.items())
    return edges, _consecutive(cell, [*nodes])


def _consecutive(cell: str, nodes: list[int]) -> Concat:
    """Return ``nodes`` in order. Raises `OcheError` unless they are 2, 3, 4 …"""
    if sorted(nodes) != [*range(2, 2 + len(nodes))]:
        raise OcheError(
            f"genotype in JSON: the cell {cell!r} has nodes {sorted(nodes)}; write all from 2 on, without a gap"
        )
    return tuple(sorted(nodes))


def _matched(pattern: re.Pattern[str], key: str) -> tuple[Any, ...]:
    found = pattern.fullmatch(str(key))
    assert found is not None, key  # `read_tree` has refused other keys
    return found.groups()


# --- NAS-Bench-201 ----------------------------------------------------------------------------------------------------


def _benchmark(tree: Mapping[str, Any]) -> Cells:
    """Return the cell of a mapping from edges, "source_target" or "target<-source", to operations."""
    found: dict[tuple[int, int], str] = {}
    for key, op in tree.items():
        a, b, target, source = _matched(_EDGE, key)
        edge = (int(a), int(b)) if a is not None else (int(source), int(target))
        if not isinstance(op, str):
            raise OcheError(f"genotype in JSON: {key} is {abbreviated(str(op))}; write the name of an operation")
        found[edge] = _BENCHMARK_OPERATIONS.get(op, op)
    if set(found) != set(_BENCHMARK_EDGES):
        raise OcheError(
            f"genotype in JSON: it has the edges {', '.join(f'{i}_{j}' for i, j in sorted(found))}; a cell of NAS-Bench-201 has "
            f"{', '.join(f'{i}_{j}' for i, j in _BENCHMARK_EDGES)}, where 'none' stands for no edge"
        )
    return {"cell": (tuple((found[edge], *edge) for edge in _BENCHMARK_EDGES), (3,))}


def _nodes_of_benchmark(nodes: list | tuple) -> Cells:
    """Return the cell of NAS-Bench-201 that is written as the lists of its three nodes, as in AutoDL-Projects' Structure."""
    if len(nodes) == 6 and all(type(n) is int or isinstance(n, str) for n in nodes):
        raise OcheError(
            "six operations alone do not say which edges they are on: tools order edges and number operations in several ways; "
            "write |nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
        )
    if len(nodes) != 3:
        raise OcheError(
            f"genotype in JSON: a list of {len(nodes)} entries is no cell; write the lists of the three nodes of "
            "NAS-Bench-201, or {'normal': [...], 'normal_concat': [...], 'reduce': ...}"
        )
    return read_fields({"cell": nodes, "cell_concat": [3]}, str(nodes))
