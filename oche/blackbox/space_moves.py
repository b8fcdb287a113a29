"""The operations of black-box strategies on the genotypes of a space."""

from __future__ import annotations

from oche.blackbox.darts_moves import ConvMoves
from oche.blackbox.moves import Moves
from oche.blackbox.nasbench201_moves import BenchmarkMoves
from oche.core.architecture import Dag
from oche.core.errors import OcheError
from oche.core.nasbench201 import CELL
from oche.spaces.base import Space
from oche.spaces.darts_cnn import ConvSpace
from oche.spaces.nasbench201 import NB201Space


def moves_of(space: Space) -> Moves:
    """Return the operations of ``space`` on genotypes. Raises `OcheError` for a space without them."""
    if isinstance(space, NB201Space):
        return BenchmarkMoves(space.candidates)
    if isinstance(space, ConvSpace):
        return ConvMoves(space.groups, space.candidates)
    raise OcheError(
        f"strategies know the cells of nb201, darts and seed, and not those of {type(space).__name__}; use --space nb201"
    )


def moves_of_groups(groups: dict[str, Dag], candidates: tuple[str, ...]) -> Moves:
    """Return the operations on cells with the edges of ``groups``, by cell name."""
    return BenchmarkMoves(candidates) if [*groups] == [CELL] else ConvMoves(groups, candidates)
