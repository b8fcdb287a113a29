"""The values that describe an architecture: the graph of a cell, the mixture on its edges, the mask of its living candidates,
and the genotype.

A search moves through them in this order. `Dag` is the graph of a cell. Each cell type has logits (E, O), which a relaxation
turns into a `Mix`; the supernet takes the mix as an input. A boolean mask (E, O) says which candidates are still alive. Decisions
narrow the mask until it holds one discrete cell, which `cell_from_mask` reads; a `Genotype` holds one such `Cell` for each type.

Shapes: E edges of a cell, O candidate operations of an edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from oche.core.arguments import checked
from oche.core.errors import OcheError
from oche.core.genotype_listings import parse_cells
from oche.core.genotype_text import CHAIN, Concat, Edges, canonical, write_cells

if TYPE_CHECKING:  # genotypes are plain text and must stay cheap to import
    from torch import Tensor

NONE = "none"  # the candidate that stands for "no edge"; part of a genotype only where `Dag.none` says so


# --- the graph of a cell and what a supernet computes on it -----------------------------------------------------------


@checked
@dataclass(frozen=True)
class Dag:
    """The graph of a cell: its nodes and the edges among them.

    Nodes 0 … inputs − 1 are the inputs of the cell, and ``nodes`` intermediate nodes follow. Every node has an edge from each
    node before it. Edges are ordered by target node, then by source node, as in the published code of DARTS.

    Discretisation keeps ``keep`` incoming edges of each intermediate node (1806.09055 §2.4: 2 in a convolutional cell). With
    ``none=True`` an edge may settle on "none" like on any other candidate, and the genotype says so: NAS-Bench-201, which keeps
    all edges. Otherwise "none" never wins an edge.

    Raises `OcheError` for fewer than one node, input or kept edge.
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
        """The (source, target) nodes of every edge."""
        return tuple((i, j) for j in range(self.inputs, self.inputs + self.nodes) for i in range(j))

    @cached_property
    def incoming(self) -> tuple[tuple[int, ...], ...]:
        """The indices of the edges into each intermediate node, node by node."""
        targets = range(self.inputs, self.inputs + self.nodes)
        return tuple(tuple(e for e, (_, j) in enumerate(self.edges) if j == t) for t in targets)

    def __len__(self) -> int:
        """Return E, the number of edges."""
        return len(self.edges)


@checked
@dataclass(frozen=True)
class PathDag(Dag):
    """A graph in which each node has one edge, from the node before it: the layers of a chain, each with a choice of its own.

    An edge may settle on "none", a layer left out. Nodes 0 … inputs − 1 are the image and the outputs of fixed layers.
    """

    inputs: int = 1
    keep: int = 1
    none: bool = True

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """The (source, target) nodes of every edge."""
        return tuple((j - 1, j) for j in range(self.inputs, self.inputs + self.nodes))


class Shape(NamedTuple):
    """What an edge of a supernet does to a map, whatever its candidate: the widths of input and output, and the stride."""

    c_in: int
    c_out: int
    stride: int = 1

    @classmethod
    def same(cls, channels: int, stride: int = 1) -> Shape:
        """Return the shape of an edge in a cell, whose input and output have the same width."""
        return cls(channels, channels, stride)

    @property
    def keeps(self) -> bool:
        """Whether input and output have the same shape, so that an identity fits."""
        return self.c_in == self.c_out and self.stride == 1


class Mix(NamedTuple):
    """The mixture of one cell type: the weight of every candidate on every edge. A supernet takes it beside its input."""

    ops: Tensor  #: (E, O) weight of each candidate; 0 for dead ones
    edges: Tensor | None  #: (E,) weight of each edge, which scales everything on the edge; None means 1
    active: Sequence[tuple[int, ...]]  #: for each edge the indices of the candidates to evaluate

    def strength(self) -> Tensor:
        """Return (E, O) the weight of a candidate times the weight of its edge, by which decisions rank candidates."""
        return self.ops if self.edges is None else self.ops * self.edges[:, None]


class DeviceChoice(Sequence[tuple[int, ...]]):
    """`Mix.active` for one sampled candidate an edge, where the choice is a tensor on the device.

    The choice is copied to the host only when someone reads it. Code that indexes by ``choice`` on the device
    (`oche.kernels.single_path.cell`) therefore never waits. It compares and hashes like the tuple of host integers.
    """

    def __init__(self, choice: Tensor, alive: Tensor) -> None:
        """``choice`` (E,) int64: the candidate of each edge. ``alive`` (E, O): edges without a living candidate have none."""
        self.choice, self.alive = choice, alive

    @cached_property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        """The chosen candidates on the host: (o,) for each edge, () where no candidate is alive."""
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


# --- discrete cells ---------------------------------------------------------------------------------------------------


@checked
@dataclass(frozen=True)
class Cell:
    """A discrete cell: (operation, source node, target node) of each edge, and the nodes whose states form its output.

    Two cells are equal if they differ only in the order in which edges or output nodes are written. That order still tells
    how a network is built and what its weights are called.

    Raises `OcheError` for a cell without edges, for an edge from a node that does not come before its target, and for an output
    of nodes that the cell does not compute.
    """

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

    @cached_property
    def canonical(self) -> tuple[Edges, Concat]:
        """Edges and output nodes in one order for all ways to write the cell, see `oche.core.genotype_text.canonical`."""
        return canonical(self.edges, self.concat)

    def __eq__(self, other: object) -> bool:
        return self.canonical == other.canonical if isinstance(other, Cell) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.canonical)

    @property
    def inputs(self) -> int:
        """The number of input nodes: all nodes before the first node with an incoming edge."""
        return min(target for _, _, target in self.edges)

    @property
    def nodes(self) -> tuple[int, ...]:
        """The intermediate nodes, in order."""
        return tuple(sorted({target for _, _, target in self.edges}))

    def share(self, operation: str) -> float:
        """Return the share of the cell's edges that carry ``operation``, in [0, 1]."""
        return sum(op == operation for op, _, _ in self.edges) / len(self.edges)


@checked
@dataclass(frozen=True)
class Genotype:
    """Discrete cells by name ("normal", "reduce", "recurrent" …). ``genotype.normal`` is a `Cell`.

    ``str(genotype)`` writes the published text form, which `parse` reads back; see `oche.core.genotype_text`.
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
        return write_cells({name: (cell.edges, cell.concat) for name, cell in self.cells.items()})

    @classmethod
    @checked
    def parse(cls, text: str) -> Genotype:
        """Read the published text form, a line of a log or a text with one genotype, JSON of NNI or AutoDL-Projects, or the
        text of a cell of NAS-Bench-201. Nothing is evaluated.

        Raises `OcheError` for any other text, and says what was found.
        """
        return cls({name: Cell(edges, concat) for name, edges, concat in parse_cells(text)})


def cell_title(group: str) -> str:
    """Return the name of a cell type for texts: "normal" → "normal cell", but "cell" → "cell" and "chain" → "chain"."""
    return group if group in ("cell", CHAIN) else f"{group} cell"


# --- masks and discretisation -----------------------------------------------------------------------------------------


def all_alive(dag: Dag, candidates: int) -> Tensor:
    """Return the mask (E, O) of an undecided cell: all True.

    Masks live on the CPU, because Python branches on them; they take no part in arithmetic.
    """
    import torch

    return torch.ones(len(dag), candidates, dtype=torch.bool)


def alive_candidates(alive: Tensor) -> tuple[tuple[int, ...], ...]:
    """Return the indices of the living candidates of each edge, for a mask ``alive`` (E, O)."""
    return tuple(tuple(o for o, on in enumerate(row) if on) for row in alive.tolist())


def eligible(alive: Tensor, dag: Dag, candidates: tuple[str, ...]) -> Tensor:
    """Return the mask (E, O) of candidates that an edge may settle on: the living ones without "none".

    With ``dag.none`` the living "none" counts too.
    """
    mask = alive.clone()
    if NONE in candidates and not dag.none:
        mask[:, candidates.index(NONE)] = False
    return mask


def top_k(strength: Tensor, alive: Tensor, dag: Dag, candidates: tuple[str, ...]) -> Tensor:
    """Return the narrowed mask (E, O) that DARTS' discretisation leaves (1806.09055 §2.4).

    ``strength`` and ``alive`` are (E, O). The strength of an edge is that of its strongest `eligible` candidate. Each node keeps
    its ``dag.keep`` strongest incoming edges, and each kept edge keeps only its strongest candidate. Ties go to the earlier
    source and the earlier candidate. An edge without an eligible candidate is never kept, so a node may keep fewer edges.
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
    """Return the discrete cell of a narrowed mask ``kept`` (E, O). Its output is every intermediate node."""
    rows = alive_candidates(eligible(kept, dag, candidates))
    edges = [(candidates[o], *dag.edges[e]) for e, row in enumerate(rows) for o in row]
    return Cell(tuple(edges), tuple(range(dag.inputs, dag.inputs + dag.nodes)))
