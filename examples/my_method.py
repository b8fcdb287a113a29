"""A search method of your own: a relaxation, and a method that uses it. Nothing inside oche changes.

oche search --plugins examples/my_method.py --method sharpened --search.relax.tau 4 0.25
"""

from dataclasses import dataclass

import oche
from oche.core.architecture import Mix, alive_candidates
from oche.core.registry import component
from oche.core.schedules import Ends, linear
from oche.methods.relaxations import Relaxation, masked_softmax


@component
@dataclass(frozen=True)
class Sharpened(Relaxation):
    """A softmax whose temperature falls, so that the mixture ends close to the discrete cell."""

    tau: Ends = (2.0, 0.5)
    """temperature at the start and at the end"""

    def __call__(self, a, alive, dag, noise, progress):
        return Mix(masked_softmax(a / linear(self.tau, progress), alive), None, alive_candidates(alive))


@oche.methods.listed("sharpened", "this file", 2026, "DARTS, but the softmax sharpens from tau 2 to 0.5")
def sharpened(**fields):
    return oche.methods.darts(**{"relax": Sharpened(), **fields})
