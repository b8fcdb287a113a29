"""Layered drawing of an acyclic graph (after Sugiyama, Tagawa and Toda 1981): order within layers, then heights.

A graph is given as layers of vertex numbers, and links that join neighbouring layers only. Where a long link passes a layer, the
caller adds a thin vertex, which keeps space for the link.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """A link from vertex ``a`` to vertex ``b`` of the next layer; a link with a high ``weight`` is drawn almost level."""

    a: int
    b: int
    weight: float = 1.0


def arrange(
    layers: Sequence[Sequence[int]], links: Sequence[Link], sizes: dict[int, float], gap: float
) -> dict[int, float]:
    """Return the height (of the centre) of every vertex, with at least ``gap`` between the vertices of a layer.

    ``sizes``: extent of each vertex along its layer. The result is deterministic; its smallest height is arbitrary.
    """
    order = _order([list(layer) for layer in layers], links)
    return _heights(order, links, sizes, gap)


def _order(layers: list[list[int]], links: Sequence[Link]) -> list[list[int]]:
    """Return the layers, reordered to have few crossings: sweeps of neighbour means and of swaps, from two starts."""
    best, fewest = layers, crossings(layers, links)
    for start in (layers, [layer[::-1] if i % 2 else layer for i, layer in enumerate(layers)]):
        now = [list(layer) for layer in start]
        for sweep in range(12):
            _mean_sweep(now, links, forward=sweep % 2 == 0)
            _swap_sweep(now, links)
            if (count := crossings(now, links)) < fewest:
                best, fewest = [list(layer) for layer in now], count
            if not fewest:
                return best
    return best


def crossings(layers: Sequence[Sequence[int]], links: Sequence[Link]) -> int:
    """Count the pairs of links that cross when drawn straight."""
    at = {v: i for layer in layers for i, v in enumerate(layer)}
    rank = {v: r for r, layer in enumerate(layers) for v in layer}
    total = 0
    for r in range(len(layers) - 1):
        pairs = [(at[link.a], at[link.b]) for link in links if rank[link.a] == r]
        total += sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(pairs) for c, d in pairs[:i])
    return total


def _neighbours(links: Sequence[Link]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Return the neighbours of every vertex in the layer before it, and in the layer after it."""
    before: dict[int, list[int]] = {}
    after: dict[int, list[int]] = {}
    for link in links:
        after.setdefault(link.a, []).append(link.b)
        before.setdefault(link.b, []).append(link.a)
    return before, after


def _mean_sweep(layers: list[list[int]], links: Sequence[Link], forward: bool) -> None:
    """Sort each layer by the mean position of its neighbours in the layer before it (``forward``) or after it."""
    before, after = _neighbours(links)
    near = before if forward else after
    for r in range(1, len(layers)) if forward else range(len(layers) - 2, -1, -1):
        at = {v: i for i, v in enumerate(layers[r - 1 if forward else r + 1])}
        own = {v: i for i, v in enumerate(layers[r])}

        def mean(v: int, at: dict[int, int] = at, own: dict[int, int] = own) -> float:
            seen = [at[u] for u in near.get(v, ())]
            return sum(seen) / len(seen) if seen else own[v]

        layers[r].sort(key=mean)


def _swap_sweep(layers: list[list[int]], links: Sequence[Link]) -> None:
    """Swap neighbours within layers while that removes crossings."""
    before, after = _neighbours(links)
    at = {v: i for layer in layers for i, v in enumerate(layer)}

    def cost(upper: int, lower: int) -> int:
        return sum(at[u] > at[v] for side in (before, after) for u in side.get(upper, ()) for v in side.get(lower, ()))

    improved = True
    while improved:
        improved = False
        for layer in layers:
            for i in range(len(layer) - 1):
                u, v = layer[i], layer[i + 1]
                if cost(v, u) < cost(u, v):
                    layer[i], layer[i + 1] = v, u
                    at[u], at[v] = i + 1, i
                    improved = True


def _heights(layers: list[list[int]], links: Sequence[Link], sizes: dict[int, float], gap: float) -> dict[int, float]:
    """Minimise the weighted squared slopes of the links, one layer at a time, and keep order and distances."""
    weighted: dict[int, list[tuple[int, float]]] = {v: [] for layer in layers for v in layer}
    for link in links:
        weighted[link.a].append((link.b, link.weight))
        weighted[link.b].append((link.a, link.weight))
    y: dict[int, float] = {}
    for layer in layers:
        offsets = _offsets(layer, sizes, gap)
        y.update({v: offset - offsets[-1] / 2 for v, offset in zip(layer, offsets, strict=True)})
    forward = list(range(len(layers)))
    for sweep in range(60):
        for r in forward if sweep % 2 == 0 else forward[::-1]:
            offsets = _offsets(layers[r], sizes, gap)
            wanted, weights = [], []
            for v, offset in zip(layers[r], offsets, strict=True):
                total = sum(w for _, w in weighted[v]) + 1e-3
                mean = (sum(y[u] * w for u, w in weighted[v]) + 1e-3 * y[v]) / total
                wanted.append(mean - offset)
                weights.append(total)
            y.update({v: base + o for v, base, o in zip(layers[r], _rising(wanted, weights), offsets, strict=True)})
    return y


def _offsets(layer: Sequence[int], sizes: dict[int, float], gap: float) -> list[float]:
    """Return the centres of the layer's vertices when packed as tightly as allowed, the first at 0."""
    offsets = [0.0]
    for u, v in itertools.pairwise(layer):
        offsets.append(offsets[-1] + (sizes[u] + sizes[v]) / 2 + gap)
    return offsets[: len(layer)]


def _rising(wanted: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the non-decreasing sequence closest to ``wanted`` in weighted squares (pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(wanted, weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (v, w, n), (u, x, m) = pools.pop(), pools.pop()
            pools.append(((v * w + u * x) / (w + x), w + x, n + m))
    return [value for value, _, n in pools for _ in range(n)]
