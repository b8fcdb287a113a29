"""What an architecture is: the graph of a cell, a mixture over its edges, a mask of what is still alive, a genotype.

Shapes: E edges of a cell, O candidate operations an edge.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from oche.core.errors import OcheError

if TYPE_CHECKING:  # genotypes are plain text and must stay cheap to import
    from torch import Tensor

NONE = "none"  # the candidate that stands for "no edge"; part of a genotype only where `Dag.none` says so


@dataclass(frozen=True)
class Dag:
    """The edges of a cell, ordered by target node and then by source node, as the published DARTS code orders them.

    Nodes 0 .. inputs-1 are the cell's inputs, the ``nodes`` intermediate ones follow. ``keep`` incoming edges
    are kept for each intermediate node when the cell is discretised (DARTS §2.4: 2 in a convolutional cell).
    With ``none`` an edge may settle on "none" as on any other candidate, and the genotype says so (NAS-Bench-201, which
    keeps all edges); without it, "none" never wins an edge.
    """

    nodes: int = 4
    inputs: int = 2
    keep: int = 2
    none: bool = False

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.inputs < 1:
            raise OcheError(f"a cell needs at least one node and one input; nodes={self.nodes}, inputs={self.inputs}")
        if self.keep < 1:
            raise OcheError(f"keep={self.keep} would leave nodes without input; use keep >= 1")

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(source, target) of every edge."""
        return tuple((i, j) for j in range(self.inputs, self.inputs + self.nodes) for i in range(j))

    @cached_property
    def incoming(self) -> tuple[tuple[int, ...], ...]:
        """For each intermediate node in turn, the indices of its incoming edges."""
        targets = range(self.inputs, self.inputs + self.nodes)
        return tuple(tuple(e for e, (_, j) in enumerate(self.edges) if j == t) for t in targets)

    def __len__(self) -> int:
        return len(self.edges)


class Mix(NamedTuple):
    """How much of every candidate flows through every edge: what a supernet's forward takes beside its input."""

    ops: Tensor  #: (E, O) weight of each candidate; 0 where it is dead
    edges: Tensor | None  #: (E,) weight of each edge, which scales everything that the edge carries; None means 1
    active: Sequence[tuple[int, ...]]  #: for each edge the candidates really evaluated

    def strength(self) -> Tensor:
        """(E, O) what decisions rank by: candidate weight times edge weight."""
        return self.ops if self.edges is None else self.ops * self.edges[:, None]


def all_alive(dag: Dag, candidates: int) -> Tensor:
    """(E, O) the mask of an undecided cell. Masks live on the CPU: they steer Python, not arithmetic."""
    import torch

    return torch.ones(len(dag), candidates, dtype=torch.bool)


def alive_candidates(alive: Tensor) -> tuple[tuple[int, ...], ...]:
    """The candidates that ``alive`` (E, O) leaves on each edge."""
    return tuple(tuple(o for o, on in enumerate(row) if on) for row in alive.tolist())


@dataclass(frozen=True)
class Cell:
    """A discrete cell: (operation, source node, target node) of each edge, and the nodes that make its output."""

    edges: tuple[tuple[str, int, int], ...]
    concat: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.edges:
            raise OcheError("a cell of a genotype has no edges; write at least one ('operation', source)")
        nodes = {target for _, _, target in self.edges} | set(range(self.inputs))
        for op, source, target in self.edges:
            if not 0 <= source < target or source not in nodes:
                raise OcheError(
                    f"edge ({op!r}, {source}) enters node {target} from node {source}, which does not come before it; "
                    f"use one of {sorted(n for n in nodes if n < target)}"
                )
        if not self.concat or not set(self.concat) <= nodes - set(range(self.inputs)):
            raise OcheError(
                f"concat={list(self.concat)} names nodes that the cell does not compute; "
                f"use some of {sorted(nodes - set(range(self.inputs)))}"
            )

    @property
    def inputs(self) -> int:
        """Number of input nodes: everything before the first node that an edge enters."""
        return min(target for _, _, target in self.edges)

    @property
    def nodes(self) -> tuple[int, ...]:
        """The intermediate nodes, in order."""
        return tuple(sorted({target for _, _, target in self.edges}))

    def share(self, operation: str) -> float:
        """Share of the cell's edges that carry ``operation``."""
        return sum(op == operation for op, _, _ in self.edges) / len(self.edges)


@dataclass(frozen=True)
class Genotype:
    """Discrete cells by name ("normal", "reduce", "recurrent" …); ``genotype.normal`` is a `Cell`.

    ``str`` and `parse` use the published text form, in which each node of a convolutional cell owns two consecutive
    pairs (of a recurrent cell: one). Cells that this cannot express are written with the target node as a third entry.
    """

    cells: Mapping[str, Cell]

    def __getattr__(self, name: str) -> Cell:
        cells = self.__dict__.get("cells", {})
        if name in cells:
            return cells[name]
        raise AttributeError(f"this genotype has no cell {name!r}; it has {', '.join(cells)}")

    def __hash__(self) -> int:
        return hash(frozenset(self.cells.items()))  # equality ignores the order of the cells, so must the hash

    def __str__(self) -> str:
        parts = []
        for name, cell in self.cells.items():
            triples = not _regular(name, cell)
            pairs = ", ".join(str(edge if triples else edge[:2]) for edge in cell.edges)
            parts += [f"{name}=[{pairs}]", f"{_concat_key(name)}={_range(cell.concat)}"]
        return f"Genotype({', '.join(parts)})"

    @classmethod
    def parse(cls, text: str) -> Genotype:
        """Reads the published text form, with lists, tuples or ranges; nothing is evaluated.

        Raises `OcheError` for anything else, with what was found.
        """
        fields = _keywords(text)
        cells = {}
        for name in [k for k in fields if k != "concat" and not k.endswith("_concat")]:
            if (key := _concat_key(name)) not in fields:
                raise OcheError(f"genotype has {name}= but no {key}=; add it, for example {key}=range(2, 6)")
            cells[name] = Cell(_edges(name, fields[name]), _concat(key, fields[key]))
        if stray := [k for k in fields if k not in cells and k not in map(_concat_key, cells)]:
            raise OcheError(f"genotype has {stray[0]}= without the cell it belongs to")
        if not cells:
            raise OcheError(f"genotype names no cell: {_short(text)}")
        return cls(cells)


def cell_title(group: str) -> str:
    """How to speak of a cell: "normal" → "normal cell", but "cell" stays."""
    return group if group == "cell" else f"{group} cell"


def _concat_key(cell: str) -> str:
    return "concat" if cell == "recurrent" else f"{cell}_concat"


def _per_node(cell: str) -> tuple[int, int]:
    """(pairs per node, input nodes) that the short text form assumes."""
    return (1, 1) if cell == "recurrent" else (2, 2)


def _regular(name: str, cell: Cell) -> bool:
    """Whether the positions of the pairs alone tell their target nodes."""
    per, inputs = _per_node(name)
    return all(target == inputs + i // per for i, (_, _, target) in enumerate(cell.edges)) and not (
        len(cell.edges) % per
    )


def _range(nodes: tuple[int, ...]) -> str:
    contiguous = nodes == tuple(range(nodes[0], nodes[-1] + 1))
    return f"range({nodes[0]}, {nodes[-1] + 1})" if contiguous else str(list(nodes))


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 60 else flat[:57] + "...")


def _source(node: ast.expr) -> str:
    try:
        return _short(ast.unparse(node))
    except RecursionError:
        return "a deeply nested expression"


def _keywords(text: str) -> dict[str, ast.expr]:
    """Name → expression of each argument in ``Genotype(name=…, …)``."""
    example = (
        "write Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=..., reduce_concat=...)"
    )
    if len(text) > 100_000:
        raise OcheError(f"genotype text has {len(text)} characters, more than any cell needs; {example}")
    # an assignment, as genotype files of the published code have it, is read as what it assigns
    try:
        node = ast.parse(re.sub(r"^\s*\w+\s*=\s*(?=Genotype)", "", text).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise OcheError(f"not a genotype: {_short(text)}; {example}") from None
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Genotype"):
        raise OcheError(f"not a genotype: {_short(text)}; {example}")
    names = [k.arg for k in node.keywords]
    if node.args or None in names or len(set(names)) != len(names):
        raise OcheError(f"a genotype takes each cell once and by name: {_short(text)}; {example}")
    return {str(k.arg): k.value for k in node.keywords}


def _literal(key: str, node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError, SyntaxError):
        raise OcheError(
            f"genotype: {key}= is not a plain list: {_source(node)}; write lists, tuples, strings and integers"
        ) from None


def _edges(name: str, node: ast.expr) -> tuple[tuple[str, int, int], ...]:
    per, inputs = _per_node(name)
    value = _literal(name, node)
    if not isinstance(value, list | tuple):
        raise OcheError(f"genotype: {name}= is {type(value).__name__}; write a list of ('operation', source) pairs")
    edges = []
    for i, item in enumerate(value):
        ok = isinstance(item, list | tuple) and len(item) in (2, 3) and isinstance(item[0], str)
        if not ok or not all(type(n) is int for n in item[1:]):
            raise OcheError(f"genotype: {name}[{i}] is {_short(str(item))}; write ('operation', source)")
        edges.append((item[0], item[1], item[2] if len(item) == 3 else inputs + i // per))
    if len({len(item) for item in value}) > 1:
        raise OcheError(f"genotype: {name}= mixes pairs and triples; give every edge its target node, or none")
    if value and len(value[0]) == 2 and len(value) % per:
        raise OcheError(f"genotype: {name}= has {len(value)} pairs; each node takes {per}, so write an even number")
    return tuple(edges)


def _concat(key: str, node: ast.expr) -> tuple[int, ...]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        bounds = [b for b in (_literal(key, a) for a in node.args) if type(b) is int and 0 <= b < 1000]
        if 1 <= len(bounds) == len(node.args) <= 2 and not node.keywords:
            return tuple(range(*bounds))
        raise OcheError(f"genotype: {key}={_source(node)}; write range(2, 6)")
    value = _literal(key, node)
    if not isinstance(value, list | tuple) or not all(type(n) is int for n in value):
        raise OcheError(f"genotype: {key}={_short(str(value))}; write range(2, 6) or a list of node numbers")
    return tuple(value)


def eligible(alive: Tensor, dag: Dag, candidates: tuple[str, ...]) -> Tensor:
    """(E, O) the living candidates that an edge may settle on: all but "none", or all where ``dag.none``."""
    mask = alive.clone()
    if NONE in candidates and not dag.none:
        mask[:, candidates.index(NONE)] = False
    return mask


def top_k(strength: Tensor, alive: Tensor, dag: Dag, candidates: tuple[str, ...]) -> Tensor:
    """DARTS' discretisation (1806.09055 §2.4) as a narrower mask: each node keeps its ``dag.keep`` strongest incoming
    edges, an edge being as strong as its best `eligible` candidate, and on each that best candidate alone.

    strength, alive: (E, O); returns (E, O). Ties go to the earlier source and the earlier candidate. An edge without an
    eligible candidate is never kept, so a node may keep fewer edges than it could.
    """
    import torch

    usable = eligible(alive, dag, candidates)
    score = strength.detach().double().cpu().masked_fill(~usable, -torch.inf)
    best, choice = score.max(1)  # the first of equal maxima
    kept = torch.zeros_like(alive)
    for incoming in dag.incoming:
        ranked = sorted((e for e in incoming if usable[e].any()), key=lambda e: (-best[e].item(), e))
        for e in ranked[: dag.keep]:
            kept[e, choice[e]] = True
    return kept


def cell_from_mask(kept: Tensor, dag: Dag, candidates: tuple[str, ...]) -> Cell:
    """The discrete cell that a narrowed mask (E, O) stands for; its output is every intermediate node."""
    rows = alive_candidates(eligible(kept, dag, candidates))
    edges = [(candidates[o], *dag.edges[e]) for e, row in enumerate(rows) for o in row]
    return Cell(tuple(edges), tuple(range(dag.inputs, dag.inputs + dag.nodes)))


class DeviceChoice(Sequence[tuple[int, ...]]):
    """`oche.core.architecture.Mix.active` of a choice that lives on the device: of each edge candidate ``choice`` (E,), none where the row
    of ``alive`` (E, O) is empty. It is read to the host when it is first looked at, so that what indexes by the choice on the
    device (`oche.kernels.single_path.cell`) never waits for it."""

    def __init__(self, choice: Tensor, alive: Tensor) -> None:
        self.choice, self.alive = choice, alive

    @cached_property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        chosen = self.choice.tolist()  # the only transfer to the host
        return tuple((o,) if any(on) else () for o, on in zip(chosen, self.alive.tolist(), strict=True))

    def __getitem__(self, e: Any) -> Any:
        return self.rows[e]

    def __len__(self) -> int:
        return len(self.alive)

    def __eq__(self, other: object) -> bool:
        return self.rows == (other.rows if isinstance(other, DeviceChoice) else other)

    def __hash__(self) -> int:
        return hash(self.rows)
