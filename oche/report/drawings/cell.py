"""Drawings of a discrete cell: inputs left, nodes by depth, output right, every edge labelled with its operation.

In the layered layout labels are vertices too, and so are the places where a long edge passes a layer. Labels, nodes and passing
edges can therefore not overlap, for any cell.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from oche.core.architecture import Cell
from oche.report.drawings.chain import Latencies, chain_links, chain_scene
from oche.report.drawings.graph_layout import Link, arrange
from oche.report.drawings.scene import (
    Box,
    Curve,
    Label,
    Point,
    Scene,
    Shape,
    clip,
    subscripted,
    text_width,
    to_png,
    to_svg,
)
from oche.report.plots.style import INK, MUTED, PAPER, operation_colour, tint

_FONT, _LABEL_HEIGHT, _NODE, _PORT, _LANE, _GAP, _MARGIN = 11.0, 21.0, 34.0, 8.0, 5.0, 8.0, 14.0
MARK = "✱"  # before operations that are emphasised, see `oche.report.comparison_cells.mark_differences`
PREVIOUS = ("c_{k-2}", "c_{k-1}")  # inputs of a convolutional cell: the outputs of the two cells before it
_CONCAT = -1  # edge number of the dashed lines to the output


@dataclass(frozen=True)
class CellNames:
    """The names of a drawn cell's inputs and output, and how the output is made of the nodes."""

    inputs: tuple[str, ...]
    output: str
    joins: str
    """"concat" or "mean" of nodes; empty where the output is one of the nodes"""
    node: int
    """number of the output: the one after the last node, unless the output is a node"""


def cell_names(cell: Cell, inputs: tuple[str, ...] = ()) -> CellNames:
    """Return the names of ``cell``; ``inputs`` are used where their number is right.

    A cell with one input is one of NAS-Bench-201 if it has several nodes and its output is the last of them; otherwise it is a
    recurrent cell.
    """
    last = max(cell.nodes)
    if cell.inputs != 1:
        names, output, joins = tuple(f"in_{i}" for i in range(cell.inputs)), "c_k", "concat"
    elif cell.concat == (last,) and len(cell.nodes) > 1:
        names, output, joins = ("in",), "out", ""
    else:
        names, output, joins = ("x, h",), "h_t", "mean"
    return CellNames(inputs if len(inputs) == cell.inputs else names, output, joins, last + 1 if joins else last)


@dataclass(frozen=True)
class Vertex:
    """A vertex of the layout, centred on (x, y); ``kind`` is node, label, or lane (where an edge passes a layer)."""

    kind: str
    layer: int
    width: float
    height: float
    node: int = -1
    edge: int = _CONCAT
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True)
class Layout:
    """The layout of a cell, in pixels.

    ``routes`` holds for each drawn edge (number of the edge, -1 for lines to the output; numbers of its vertices).
    """

    vertices: tuple[Vertex, ...]
    routes: tuple[tuple[int, tuple[int, ...]], ...]
    width: float
    height: float


def layout_cell(cell: Cell, inputs: tuple[str, ...] = ()) -> Layout:
    """Place inputs, nodes, labels and output of ``cell``."""
    vertices, routes = _vertices(cell, cell_names(cell, inputs))
    layers: list[list[int]] = [[] for _ in range(1 + max(v.layer for v in vertices))]
    for i, v in enumerate(vertices):
        layers[v.layer].append(i)
    links = [Link(a, b, _weight(vertices[a], vertices[b])) for _, route in routes for a, b in itertools.pairwise(route)]
    ys = arrange(layers, links, {i: v.height for i, v in enumerate(vertices)}, _GAP)
    if cell.inputs > 1 and ys[0] > ys[1]:  # mirror the drawing, so that the inputs keep their order
        ys = {i: -y for i, y in ys.items()}
    top = min(ys[i] - v.height / 2 for i, v in enumerate(vertices)) - _MARGIN
    bottom = max(ys[i] + v.height / 2 for i, v in enumerate(vertices)) + _MARGIN
    xs, width = _columns(vertices, layers, links, ys)
    placed = tuple(
        Vertex(v.kind, v.layer, v.width, v.height, v.node, v.edge, xs[v.layer], ys[i] - top)
        for i, v in enumerate(vertices)
    )
    return Layout(placed, tuple(routes), width, bottom - top)


def _depths(cell: Cell) -> dict[int, int]:
    """Return the depth of every node: the longest path from an input."""
    depths = dict.fromkeys(range(cell.inputs), 0)
    for node in cell.nodes:
        depths[node] = 1 + max(depths[source] for _, source, target in cell.edges if target == node)
    return depths


def _vertices(cell: Cell, names: CellNames) -> tuple[list[Vertex], list[tuple[int, tuple[int, ...]]]]:
    """Return vertices without positions, and the routes through them. Nodes are in even layers, labels in odd ones."""
    layer_of, joined = _node_layers(cell, names), cell.concat if names.joins else ()
    vertices = _node_vertices(cell, names, layer_of, joined)
    number = {node: i for i, node in enumerate(layer_of)}  # node → index of its vertex
    routes: list[tuple[int, tuple[int, ...]]] = []
    labels_in: Counter[int] = Counter()  # layer → number of labels
    for e, (operation, source, target) in enumerate(cell.edges):
        passed = range(layer_of[source] + 1, layer_of[target])
        label_layer = min(
            passed[::2], key=lambda layer: (labels_in[layer], -layer)
        )  # the odd layer with the fewest labels
        labels_in[label_layer] += 1
        label = Vertex("label", label_layer, text_width(clip(operation, 24), _FONT) + 14, _LABEL_HEIGHT, edge=e)
        own = [label if layer == label_layer else Vertex("lane", layer, 0.0, _LANE, edge=e) for layer in passed]
        routes.append((e, (number[source], *_extend(vertices, own), number[target])))
    for node in joined:
        own = [Vertex("lane", layer, 0.0, _LANE) for layer in range(layer_of[node] + 1, layer_of[names.node])]
        routes.append((_CONCAT, (number[node], *_extend(vertices, own), number[names.node])))
    return vertices, routes


def _node_layers(cell: Cell, names: CellNames) -> dict[int, int]:
    """Return node → layer: twice its depth; an output that joins nodes is in the layer after the last one."""
    depths = _depths(cell)
    layers = {names.node: 2 * max(depths.values()) + 1} if names.joins and cell.concat else {}
    return {node: 2 * depth for node, depth in depths.items()} | layers


def _node_vertices(cell: Cell, names: CellNames, layer_of: dict[int, int], joined: tuple[int, ...]) -> list[Vertex]:
    """Return the vertices of the nodes, each high enough for the edges that touch it."""
    leaving = Counter(source for _, source, _ in cell.edges) + Counter(joined)
    touching = leaving | Counter(target for _, _, target in cell.edges) | Counter({names.node: len(joined)})
    vertices = []
    for node, layer in layer_of.items():
        name = names.inputs[node] if node < cell.inputs else ""
        width = max(_NODE, min(text_width(name.replace("_", "").strip("{}"), 13.0), 96.0) + 16) if name else _NODE
        vertices.append(Vertex("node", layer, width, max(_NODE, _PORT * touching[node] + 8), node=node))
    return vertices


def _extend(vertices: list[Vertex], more: list[Vertex]) -> range:
    """Append ``more`` to ``vertices`` and return their indices."""
    first = len(vertices)
    vertices += more
    return range(first, len(vertices))


def _weight(a: Vertex, b: Vertex) -> float:
    """Return the weight of a link: links between two bends of one edge should be straight, those at nodes may slope."""
    return {0: 24.0, 1: 2.0, 2: 1.0}[(a.kind == "node") + (b.kind == "node")]


def _columns(
    vertices: list[Vertex], layers: list[list[int]], links: list[Link], ys: dict[int, float]
) -> tuple[list[float], float]:
    """Return the centre of each layer, and the total width; layers joined by steep links are further apart."""
    widths = [max(vertices[i].width for i in layer) for layer in layers]
    steep = [0.0] * len(layers)
    for link in links:
        layer = vertices[link.a].layer
        steep[layer] = max(steep[layer], abs(ys[link.a] - ys[link.b]))
    xs, x = [], _MARGIN
    for width, slope in zip(widths, steep, strict=True):
        xs.append(x + width / 2)
        x += width + min(max(20.0, 0.3 * slope), 64.0)
    return xs, xs[-1] + widths[-1] / 2 + _MARGIN


def cell_scene(
    cell: Cell, title: str = "", inputs: tuple[str, ...] = PREVIOUS, latencies: Latencies | None = None
) -> Scene:
    """Return the cell as boxes, curves and labels. A chain of blocks is a strip, with ``latencies`` below its blocks."""
    if (links := chain_links(cell)) is not None:
        return chain_scene(links, title, latencies)
    places, names = layout_cell(cell, inputs), cell_names(cell, inputs)
    top = 26.0 if title else 0.0
    title = clip(title, 60)
    width = max(places.width, text_width(title, 13) + 2 * _MARGIN)
    left = (width - places.width) / 2
    shapes: list[Shape] = [Label(width / 2, 17, title, 13, INK, bold=True)] if title else []
    at = [(v.x + left, v.y + top) for v in places.vertices]
    shapes += _curves(cell, places, at)
    for v, (x, y) in zip(places.vertices, at, strict=True):
        if v.kind == "label":
            shapes += _label(cell, v, x, y)
        elif v.kind == "node":
            shapes += _node(cell, v, x, y, names)
    summary = "; ".join(f"node {t} takes {op} of {s}" for op, s, t in cell.edges)
    return Scene(width, places.height + top, tuple(shapes), f"{title or 'cell'}: {summary}")


def _curves(cell: Cell, places: Layout, at: list[Point]) -> list[Shape]:
    ports = _ports(places)
    half = {v.layer: v.width / 2 for v in sorted(places.vertices, key=lambda v: v.width)}  # the widest of each layer
    curves: list[Shape] = []
    for r, (edge, route) in enumerate(places.routes):
        points: list[Point] = []
        for step, i in enumerate(route):
            v, (x, y) = places.vertices[i], at[i]
            reach = half[v.layer] if v.kind == "lane" else v.width / 2
            y += ports.get((r, step), 0.0)
            points += [(x - reach, y)] if step else []
            points += [(x + reach, y)] if step < len(route) - 1 else []
        operation = cell.edges[edge][0] if edge >= 0 else ""
        colour = operation_colour(operation) if operation else MUTED
        width = 1.1 if not operation else 3.2 if operation.startswith(MARK) else 1.5
        curves.append(Curve(tuple(points), colour, width, dashed=edge < 0, arrow=True))
    return curves


def _ports(places: Layout) -> dict[tuple[int, int], float]:
    """Return (route, step) → vertical distance from the node's centre; the edges at one side of a node are spread out."""
    sides: dict[tuple[int, bool], list[tuple[float, int, int]]] = {}
    for r, (_, route) in enumerate(places.routes):
        for step, other in ((0, 1), (len(route) - 1, len(route) - 2)):
            side = sides.setdefault((route[step], step == 0), [])
            side.append((places.vertices[route[other]].y, r, step))
    ports = {}
    for touching in sides.values():
        for i, (_, r, step) in enumerate(sorted(touching)):
            ports[r, step] = (i - (len(touching) - 1) / 2) * _PORT
    return ports


def _label(cell: Cell, v: Vertex, x: float, y: float) -> list[Shape]:
    operation, source, target = cell.edges[v.edge]
    colour = operation_colour(operation)
    tip = f"{operation}: {source} → {target}"
    box = Box(x - v.width / 2, y - v.height / 2, v.width, v.height, tint(colour), colour, v.height / 2, tip)
    return [box, Label(x, y, clip(operation, 24), _FONT)]


def _node(cell: Cell, v: Vertex, x: float, y: float, names: CellNames) -> list[Shape]:
    output = v.node == names.node
    is_input = v.node < cell.inputs
    colour = "#c0504d" if is_input else "#3f72b5" if output else "#4f8a4c"  # red, green, blue as in the seed's Figure 3
    tip = "output" if output else f"input {v.node}" if is_input else f"node {v.node}"
    box = Box(x - v.width / 2, y - v.height / 2, v.width, v.height, tint(colour, 0.22), colour, 7, tip)
    if output and names.joins:
        return [box, *subscripted(names.output, x, y)]
    if is_input or output:
        name = names.output if output else names.inputs[v.node]
        return [box, *subscripted(name, x, y - 5), Label(x, y + 10, str(v.node), 8.5, "#5a616b")]
    return [box, Label(x, y, str(v.node), 13)]


def cell_svg(
    cell: Cell,
    title: str = "",
    inputs: tuple[str, ...] = PREVIOUS,
    background: str | None = PAPER,
    latencies: Latencies | None = None,
) -> str:
    """Return the drawing as SVG text; ``background=None`` makes it transparent, for pages of any colour.

    Nodes are numbered as in the genotype. ``inputs`` names the input nodes ("c_{k-2}" is drawn with a subscript); it is ignored
    where the cell has another number of inputs. ``latencies``: of the blocks of a chain, by node, in milliseconds.
    """
    return to_svg(cell_scene(cell, title, inputs, latencies), background)


def cell_png(
    cell: Cell,
    path: Path | str,
    title: str = "",
    inputs: tuple[str, ...] = PREVIOUS,
    latencies: Latencies | None = None,
) -> None:
    """Write the same drawing as a PNG file, with two pixels per unit."""
    to_png(cell_scene(cell, title, inputs, latencies), Path(path))
