"""Search spaces: which architectures there are, the supernet that holds them all, how one is read off."""

from .conv import SPACES, ConvSpace, MixedEdge, Supernet, darts, seed
from .final import FinalNetwork, build
from .ops import OPERATIONS, operation

__all__ = [
    "OPERATIONS",
    "SPACES",
    "ConvSpace",
    "FinalNetwork",
    "MixedEdge",
    "Supernet",
    "build",
    "darts",
    "operation",
    "seed",
]
