"""Read the edges of a cell for `oche.kernels.single_path.cell`, or say why it cannot compute them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from oche.kernels.op_terms import ParsedOperation, Pool, Skip, Stage, parse_operation
from oche.networks.operations import Zero
from oche.spaces.edge_variants import PartialOperation
from oche.spaces.mixed_ops import MixedOperation


class Unsupported(Exception):
    """An edge or candidate does not fit the expression that all candidates share; the message says which."""


@dataclass(frozen=True)
class Edge:
    """A living edge, number ``e``.

    ``alive`` are its candidates, and ``known`` their parsed operations without "none". One channel in ``k`` passes
    through the candidates; the others pass them by as ``module`` defines.
    """

    e: int
    alive: tuple[int, ...]
    known: dict[int, ParsedOperation]
    k: int
    candidates: nn.ModuleList
    module: nn.Module

    @property
    def stages(self) -> Iterator[tuple[int, tuple[Stage, ...]]]:
        """The candidates that consist of stages."""
        return ((o, piece) for o, piece in self.known.items() if isinstance(piece, tuple))


def read_edges(
    edges: Sequence[nn.Module] | nn.ModuleList, alive: Sequence[Sequence[bool]] | None, names: Sequence[str] = ()
) -> list[Edge]:
    """Return the edges of a cell that have candidates by ``alive`` (E, O), by default all of them.

    Raises `Unsupported` if one expression cannot compute them all. The message calls candidates by their ``names``.
    """
    rows = [[True] * len(names) for _ in edges] if alive is None else alive
    found = [_edge(e, module, on, names) for e, (module, on) in enumerate(zip(edges, rows, strict=True)) if any(on)]
    if len({edge.k for edge in found}) > 1:
        raise Unsupported("edges let different shares of their channels through")
    stages = [(t, stage) for edge in found for _, row in edge.stages for t, stage in enumerate(row)]
    if len({conv.in_channels for _, stage in stages for conv in stage.dense}) > 1:
        raise Unsupported("edges of a cell have different widths")
    if len({(t, stage.norm.eps) for t, stage in stages}) > len({t for t, _ in stages}):
        raise Unsupported("BatchNorms of a cell differ in eps")
    return found


def _edge(e: int, module: nn.Module, alive: Sequence[bool], names: Sequence[str]) -> Edge:
    inner, k = (module.inner, module.k) if type(module) is PartialOperation else (module, 1)
    if type(inner) is not MixedOperation:
        raise Unsupported(f"{type(inner).__name__} is no plain mixed operation")
    known: dict[int, ParsedOperation] = {}
    for o, (candidate, on) in enumerate(zip(inner.candidates, alive, strict=True)):
        if on and not isinstance(candidate, Zero):
            known[o] = parse_operation(candidate)
            if not _serves(known[o]):
                name = repr(names[o]) if names else f"number {o}"
                raise Unsupported(f"candidate {name} has no part in a form that all candidates share")
    return Edge(e, tuple(o for o, on in enumerate(alive) if on), known, k, inner.candidates, module)


def _serves(piece: ParsedOperation) -> bool:
    """Whether an operation keeps the number of channels, and has its stride, if any, in its first stage."""
    if isinstance(piece, Pool):
        return piece.norm is None or not piece.norm.affine
    if not isinstance(piece, tuple):
        return isinstance(piece, Skip)
    wide = all({c.in_channels for c in s.dense} == {sum(c.out_channels for c in s.dense)} for s in piece)
    return wide and all(s.stride == 1 for s in piece[1:])
