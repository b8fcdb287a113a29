"""A search space of your own: the DARTS cell, whose nodes see only the two nodes before them. Nothing inside oche changes.

oche search --plugins examples/my_space.py --space near --space.channels 8 --space.cells 3
"""

from dataclasses import dataclass
from functools import cached_property

import oche
from oche.core.architecture import Dag
from oche.core.registry import component
from oche.spaces import ConvSpace


class Near(Dag):
    """The edges of a cell that span one or two nodes, ordered by target."""

    @cached_property
    def edges(self):
        return tuple((i, j) for j in range(2, 2 + self.nodes) for i in (j - 2, j - 1))


@component
@dataclass(frozen=True)
class NearSpace(ConvSpace):
    """Cells whose nodes have two incoming edges each: 8 edges instead of 14."""

    @cached_property
    def dag(self):
        return Near(self.nodes, 2, self.keep)


@oche.spaces.listed("near")
def near(**fields):
    """DARTS cells whose nodes see only the two nodes before them"""
    return NearSpace(**fields)
