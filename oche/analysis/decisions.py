"""Whether a search decided its cells: the margin of each choice against the noise of the search itself.

A search that moved by chance alone also ends with a strongest operation on every edge. So each choice is compared with its
strongest rival over the epochs. Let d_t be the logarithm of the ratio of their weights after epoch t; for a softmax it is the
difference of their logits. If gradients push the two apart, d_t grows in most epochs. If noise moves them, its increments
d_t - d_{t-1} scatter around zero, and d_T is a random walk of T steps. The increments are tested by Student's t against a
mean of zero, one-sided, with the level divided by the number of candidates of the node (Bonferroni), since the compared ones
were picked after the search.

Shapes: E edges of a cell, O candidate operations, T epochs. This module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from oche.core.architecture import NONE, Cell
from oche.core.blocks import choice_name

LEVEL = 0.05  # probability that a node of a search without any signal is called decided, at most
LEAST = math.log(1.05)  # a choice must weigh 5 % more than its rival: less does not survive the discretisation
FEWEST = 4  # epochs from which the scatter of the increments can be told

Weights = Sequence[Sequence[float]]  # (E, O)
Choice = tuple[int, int]  # (edge, operation)


@dataclass(frozen=True)
class Margin:
    """The margin of a choice over its strongest rival."""

    margin: float
    """logarithm of the ratio of their weights at the end; below 0 the rival is stronger"""
    noise: float
    """standard deviation that the margin would have if noise alone had moved it; nan if there are too few epochs"""
    p: float
    """one-sided p of the t-test of the increments, corrected for the number of candidates; 1 if there are too few epochs"""
    rival: Choice

    @property
    def decided(self) -> bool:
        """Whether the margin is larger than noise explains, and at least 5 %."""
        return self.p <= LEVEL and self.margin >= LEAST


@dataclass(frozen=True)
class NodeDecision:
    """The choice of a node's incoming edges and operations."""

    cell: str
    node: int
    kept: tuple[Choice, ...]
    closest: Margin | None
    """the least certain of its choices; None if there was nothing to choose"""

    @property
    def decided(self) -> bool:
        """Whether every choice of the node is larger than noise explains."""
        return self.closest is None or self.closest.decided


@dataclass(frozen=True)
class CellDecisions:
    """The decisions of one cell: of its nodes, and of the operation on each edge."""

    nodes: tuple[NodeDecision, ...]
    edges: tuple[Margin | None, ...]
    """(E,) margin of the strongest operation of each edge over the second; None where one candidate was left from the start"""


def cell_decisions(
    name: str,
    cell: Cell,
    edges: Sequence[tuple[int, int]],
    candidates: Sequence[str],
    history: Sequence[Weights],
) -> CellDecisions:
    """Return the decisions of the chosen ``cell``.

    ``edges``: (source, target) of the E edges. ``history``: the weights (E, O) before the first epoch and after each of T
    epochs, multiplied by the weights of the edges if the method has some. A weight of 0 means that the candidate was
    dropped; the test of a pair then ends at the epoch before.
    """
    place = {edge: e for e, edge in enumerate(edges)}
    kept = [
        (place[source, target], candidates.index(choice_name(op)))
        for op, source, target in cell.edges
        if (source, target) in place and choice_name(op) in candidates
    ]
    nodes = []
    for node in sorted({target for _, target in edges}):
        incoming = [e for e, (_, target) in enumerate(edges) if target == node]
        chosen = tuple(choice for choice in kept if choice[0] in incoming)
        margins = [_margin(mine, rival, history, len(incoming) * len(candidates))
                   for mine, rival in _pairs(chosen, incoming, candidates, history)]  # fmt: skip
        closest = min((m for m in margins if m is not None), key=_certainty, default=None)
        nodes.append(NodeDecision(name, node, chosen, closest))
    return CellDecisions(tuple(nodes), tuple(_edge(e, history, len(candidates)) for e in range(len(edges))))


def count_decided(cells: Mapping[str, CellDecisions]) -> tuple[int, int]:
    """Return (decided nodes, nodes) of all ``cells``."""
    nodes = [node for cell in cells.values() for node in cell.nodes]
    return sum(node.decided for node in nodes), len(nodes)


def describe(cells: Mapping[str, CellDecisions]) -> str:
    """Return one line for people: "decided 3 of 8 nodes"."""
    decided, nodes = count_decided(cells)
    return f"decided {decided} of {nodes} nodes"


def _certainty(margin: Margin) -> tuple[bool, float, float]:
    return margin.decided, -margin.p, margin.margin


def _pairs(
    kept: Sequence[Choice], incoming: Sequence[int], candidates: Sequence[str], history: Sequence[Weights]
) -> Iterator[tuple[Choice, Choice]]:
    """Yield (choice, rival): other operations of a kept edge, and for the weakest kept edge the best of each dropped edge."""
    places = {e: [o for o, name in enumerate(candidates) if name != NONE] for e in incoming}
    if any(candidates[o] == NONE for _, o in kept):  # "none" was a choice like any other, as in NAS-Bench-201
        places = {e: list(range(len(candidates))) for e in incoming}
    for e, o in kept:
        yield from (((e, o), (e, other)) for other in places[e] if other != o)
    if not kept:
        return
    weakest = min(kept, key=lambda choice: _last(choice, history))
    for e in incoming:
        if e not in [edge for edge, _ in kept]:
            yield weakest, max(((e, o) for o in places[e]), key=lambda choice: _last(choice, history))


def _last(choice: Choice, history: Sequence[Weights]) -> float:
    """Return the last weight of ``choice`` before it was dropped."""
    e, o = choice
    return next((weights[e][o] for weights in reversed(history) if weights[e][o] > 0), 0.0)


def _edge(e: int, history: Sequence[Weights], count: int) -> Margin | None:
    """Return the margin of the strongest operation of edge ``e`` over the second, in the last epoch that has a second."""
    open_ = [weights for weights in history if sum(w > 0 for w in weights[e]) > 1]
    if not open_:
        return None
    first, second = sorted(range(len(open_[-1][e])), key=lambda o: -open_[-1][e][o])[:2]
    return _margin((e, first), (e, second), open_, count)


def _margin(mine: Choice, rival: Choice, history: Sequence[Weights], tests: int) -> Margin | None:
    """Return the margin of ``mine`` over ``rival`` while both were candidates; None if they never were together."""
    both = [(w[mine[0]][mine[1]], w[rival[0]][rival[1]]) for w in history]
    ratios = [math.log(a / b) for a, b in both if a > 0 and b > 0]
    if not ratios:
        return None
    steps = [after - before for before, after in pairwise(ratios)]
    if len(steps) < FEWEST:
        return Margin(ratios[-1], math.nan, 1.0, rival)
    mean = math.fsum(steps) / len(steps)
    noise = math.sqrt(math.fsum((step - mean) ** 2 for step in steps) / (len(steps) - 1) * len(steps))
    return Margin(ratios[-1], noise, min(1.0, tests * _student(ratios[-1] - ratios[0], noise, len(steps))), rival)


def _student(drift: float, noise: float, count: int) -> float:
    """Return P(t >= drift / noise) of Student's t with ``count`` - 1 degrees of freedom."""
    from scipy import special

    if noise == 0:
        return 0.0 if drift > 0 else 1.0
    return float(special.stdtr(count - 1, -drift / noise))
