"""Search spaces: the set of architectures, the supernet that holds them all, and how to read an architecture off it."""

from collections.abc import Callable
from typing import TypeVar

from oche.core.architecture import Genotype
from oche.core.arguments import checked
from oche.core.blocks import is_chain
from oche.core.nasbench201 import CELL
from oche.networks.build import build
from oche.networks.cell_network import FinalNetwork
from oche.networks.operations import OPERATIONS, operation
from oche.spaces.base import Space
from oche.spaces.chain import ChainSpace, chain, fbnet, proxyless
from oche.spaces.darts_cnn import ConvSpace, Supernet, darts, seed
from oche.spaces.darts_rnn import RecurrentNetwork, RecurrentSpace, recurrent
from oche.spaces.edge_variants import AuxiliarySkip, PartialEdge, PathDropout, SkipDropout
from oche.spaces.mixed_ops import EdgeBuilder, MixedEdge
from oche.spaces.nasbench201 import NB201Space, nb201
from oche.spaces.shared_blocks import SharedBlocks

SPACES: dict[str, Callable[..., Space]] = {
    "darts": darts, "seed": seed, "nb201": nb201, "chain": chain, "proxyless": proxyless, "fbnet": fbnet,
    "recurrent": recurrent,
}  # fmt: skip

F = TypeVar("F", bound=Callable[..., Space])


@checked
def space_of(genotype: Genotype) -> Space:
    """Return a space that ``genotype`` is in, with the candidates to compare its operations with; for images."""
    return next(make(genotype) for knows, make in _SPACE_OF if knows(genotype))


_SPACE_OF: tuple[tuple[Callable[[Genotype], bool], Callable[[Genotype], Space]], ...] = (
    (is_chain, ChainSpace.around),
    (lambda genotype: [*genotype.cells] == [CELL], lambda genotype: nb201()),
    (lambda genotype: True, lambda genotype: darts()),
)


def listed(name: str) -> Callable[[F], F]:
    """Return a decorator that adds a function which makes a space to `SPACES`, for ``--space NAME``.

    The docstring of that function is its description in ``oche list spaces``.
    """

    def register(make: F) -> F:
        make = checked(make)
        SPACES[name] = make
        return make

    return register


__all__ = [
    "OPERATIONS",
    "SPACES",
    "AuxiliarySkip",
    "ChainSpace",
    "ConvSpace",
    "EdgeBuilder",
    "FinalNetwork",
    "MixedEdge",
    "NB201Space",
    "PartialEdge",
    "PathDropout",
    "RecurrentNetwork",
    "RecurrentSpace",
    "SharedBlocks",
    "SkipDropout",
    "Space",
    "Supernet",
    "build",
    "chain",
    "darts",
    "fbnet",
    "listed",
    "nb201",
    "operation",
    "proxyless",
    "recurrent",
    "seed",
    "space_of",
]
