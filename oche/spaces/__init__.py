"""Search spaces: which architectures there are, the supernet that holds them all, how one is read off."""

from collections.abc import Callable
from typing import TypeVar

from oche.networks.build import build
from oche.networks.cell_network import FinalNetwork
from oche.networks.operations import OPERATIONS, operation
from oche.spaces.base import Space
from oche.spaces.darts_cnn import ConvSpace, Supernet, darts, seed
from oche.spaces.darts_rnn import RecurrentNetwork, RecurrentSpace, recurrent
from oche.spaces.mixed_ops import AuxiliarySkip, EdgeBuilder, MixedEdge, PartialEdge, PathDropout, SkipDropout
from oche.spaces.nasbench201 import NB201Space, nb201

SPACES: dict[str, Callable[..., Space]] = {"darts": darts, "seed": seed, "nb201": nb201, "recurrent": recurrent}

F = TypeVar("F", bound=Callable[..., Space])


def listed(name: str) -> Callable[[F], F]:
    """Lists a function that makes a space in `SPACES`, for ``--space NAME``; its docstring is what `oche list spaces` shows."""

    def enter(make: F) -> F:
        SPACES[name] = make
        return make

    return enter


__all__ = [
    "OPERATIONS",
    "SPACES",
    "AuxiliarySkip",
    "ConvSpace",
    "EdgeBuilder",
    "FinalNetwork",
    "MixedEdge",
    "NB201Space",
    "PartialEdge",
    "PathDropout",
    "RecurrentNetwork",
    "RecurrentSpace",
    "SkipDropout",
    "Space",
    "Supernet",
    "build",
    "darts",
    "listed",
    "nb201",
    "operation",
    "recurrent",
    "seed",
]
