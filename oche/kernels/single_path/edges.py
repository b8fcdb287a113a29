"""What the edges of a cell consist of, as `oche.kernels.single_path.cell` computes them; and why some cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from oche.kernels.op_terms import Piece, Pool, Skip, Stage, pieces
from oche.networks.operations import Zero
from oche.spaces.mixed_ops import MixedOperation, PartialOperation


class Unknown(Exception):
    """Something that has no part in the form that all candidates share; says what."""


@dataclass(frozen=True)
class Edge:
    """A living edge ``e``: what each of its candidates that are ``alive`` consists of, "none" left out; one channel in ``k``
    passes through them, the others past them as ``module`` has it."""

    e: int
    alive: tuple[int, ...]
    known: dict[int, Piece]
    k: int
    candidates: nn.ModuleList
    module: nn.Module

    @property
    def stages(self) -> Iterator[tuple[int, tuple[Stage, ...]]]:
        """Candidates that are stages one behind the other."""
        return ((o, piece) for o, piece in self.known.items() if isinstance(piece, tuple))


def read(
    edges: Sequence[nn.Module] | nn.ModuleList, alive: Sequence[Sequence[bool]] | None, names: Sequence[str] = ()
) -> list[Edge]:
    """The edges of a cell on which rows of ``alive`` (E, O), by default all true, leave anything. Raises `Unknown` where one form
    cannot serve them all; it speaks of candidates by their ``names``."""
    rows = [[True] * len(names) for _ in edges] if alive is None else alive
    found = [_edge(e, module, on, names) for e, (module, on) in enumerate(zip(edges, rows, strict=True)) if any(on)]
    if len({edge.k for edge in found}) > 1:
        raise Unknown("edges let different shares of their channels through")
    stages = [(t, stage) for edge in found for _, row in edge.stages for t, stage in enumerate(row)]
    if len({conv.in_channels for _, stage in stages for conv in stage.dense}) > 1:
        raise Unknown("edges of a cell have different widths")
    if len({(t, stage.norm.eps) for t, stage in stages}) > len({t for t, _ in stages}):
        raise Unknown("BatchNorms of a cell differ in eps")
    return found


def _edge(e: int, module: nn.Module, alive: Sequence[bool], names: Sequence[str]) -> Edge:
    inner, k = (module.inner, module.k) if type(module) is PartialOperation else (module, 1)
    if type(inner) is not MixedOperation:
        raise Unknown(f"{type(inner).__name__} is no plain mixed operation")
    known: dict[int, Piece] = {}
    for o, (candidate, on) in enumerate(zip(inner.candidates, alive, strict=True)):
        if on and not isinstance(candidate, Zero):
            known[o] = pieces(candidate)
            if not _serves(known[o]):
                name = repr(names[o]) if names else f"number {o}"
                raise Unknown(f"candidate {name} has no part in a form that all candidates share")
    return Edge(e, tuple(o for o, on in enumerate(alive) if on), known, k, inner.candidates, module)


def _serves(piece: Piece) -> bool:
    """Whether it keeps the number of channels, and halves the map at once if at all."""
    if isinstance(piece, Pool):
        return piece.norm is None or not piece.norm.affine
    if not isinstance(piece, tuple):
        return isinstance(piece, Skip)
    wide = all({c.in_channels for c in s.dense} == {sum(c.out_channels for c in s.dense)} for s in piece)
    return wide and all(s.stride == 1 for s in piece[1:])
