"""Search spaces: which architectures there are, the supernet that holds them all, how one is read off."""

from collections.abc import Callable

from .conv import ConvSpace, Supernet, darts, seed
from .edges import AuxiliarySkip, EdgeBuilder, MixedEdge, PartialEdge, PathDropout, SkipDropout
from .final import FinalNetwork
from .nb201 import NB201Space, nb201
from .networks import build
from .ops import OPERATIONS, operation
from .recurrent import RecurrentNetwork, RecurrentSpace, recurrent
from .space import Space

SPACES: dict[str, Callable[..., Space]] = {"darts": darts, "seed": seed, "nb201": nb201, "recurrent": recurrent}

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
    "nb201",
    "operation",
    "recurrent",
    "seed",
]
