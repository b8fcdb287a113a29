"""Random and local search on a table in closed form: no seeds, no tolerance.

Shapes: n cells of a table, with ``value`` (n,), what the search compares, and ``shown`` (n,), what is reported of its choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oche.blackbox.moves import Moves
from oche.core.errors import OcheError


@dataclass(frozen=True)
class Moments:
    """A mean and a standard deviation, of the whole distribution."""

    mean: float
    sd: float


def random_search(value: np.ndarray, shown: np.ndarray, queries: int) -> Moments:
    """Return the distribution of ``shown`` of the best of ``queries`` uniform draws with replacement.

    The best has value v with probability F(v)^N − F(v⁻)^N, where F(v) is the share of cells with values up to v. Cells of
    equal value share it equally. Raises `OcheError` for fewer than one query.
    """
    if queries < 1:
        raise OcheError(f"queries={queries} choose nothing; use 1 or more")
    _, group, counts = np.unique(value, return_inverse=True, return_counts=True)
    upto = counts.cumsum() / len(value)
    of_group = upto**queries - np.concatenate([[0.0], upto[:-1]]) ** queries
    p = (of_group / counts)[group]
    mean = float(p @ shown)
    return Moments(mean, float(np.sqrt(max(0.0, p @ (shown - mean) ** 2))))


@dataclass(frozen=True)
class Ascents:
    """The steepest ascents from every cell of a table. ``ends`` (n,): the number of the cell where each ends."""

    optima: int
    """cells without a strictly better neighbour"""
    moves: float
    """mean number of moves of an ascent"""
    reach_best: float
    """share of the starts that end at the best cell"""
    ends: np.ndarray


def steepest_ascents(moves: Moves, value: dict[str, float]) -> Ascents:
    """Return the steepest ascents on ``value``, by key, from every cell of the space.

    A move goes to the best neighbour, the first of equal ones, if it is strictly better.
    """
    cells = moves.everything()
    keys = [moves.key(cell) for cell in cells]
    place = {key: i for i, key in enumerate(keys)}
    score = np.array([value[key] for key in keys])
    around = np.array([[place[moves.key(c)] for c in moves.neighbours(cell)] for cell in cells])
    best = around[np.arange(len(cells)), score[around].argmax(1)]
    following = np.where(score[best] > score, best, np.arange(len(cells)))
    ends, steps = np.arange(len(cells)), np.zeros(len(cells))
    while (moved := following[ends] != ends).any():
        steps += moved
        ends = following[ends]
    return Ascents(
        int((following == np.arange(len(cells))).sum()),
        float(steps.mean()),
        float((ends == score.argmax()).mean()),
        ends,
    )
