"""Selections that look for the best architecture the trained supernet holds, each as good as its accuracy there.

Architectures are masks (E, O) of all groups of edges. Shapes: E edges, O candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from oche.core.architecture import Dag
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.methods.discretize.base import Court, Decide, View

Masks = dict[str, Tensor]
Scored = list[tuple[Masks, float]]


def draw(usable: Tensor, dag: Dag, generator: torch.Generator) -> Tensor:
    """(E, O) a cell drawn at random: for each node ``Dag.keep`` distinct incoming edges, on each one ``usable`` candidate."""
    kept = torch.zeros_like(usable)
    for incoming in dag.incoming:
        edges = [e for e in incoming if usable[e].any()]
        for i in torch.randperm(len(edges), generator=generator)[: dag.keep].tolist():
            kept[edges[i], _one(usable[edges[i]].nonzero().flatten().tolist(), generator)] = True
    return kept


def mutate(parent: Masks, views: dict[str, View], generator: torch.Generator) -> Masks:
    """``parent`` with one change (1802.01548 §3.2): an edge gets another candidate, or its candidate another source.

    The cell, its edge and the kind of change are drawn at random, where there are both kinds; a node's sources stay distinct.
    """
    group = _one([*parent], generator)
    cell, usable, dag = parent[group].clone(), views[group].usable, views[group].dag
    e = _one(cell.any(1).nonzero().flatten().tolist(), generator)
    o = int(cell[e].nonzero()[0])
    others = [p for p in usable[e].nonzero().flatten().tolist() if p != o]
    target = dag.edges[e][1]
    free = [f for f, (_, j) in enumerate(dag.edges) if j == target and usable[f].any() and not cell[f].any()]
    if not others and not free:
        return dict(parent)
    cell[e] = False
    if _one([kind for kind in (others, free) if kind], generator) is others:
        cell[e, _one(others, generator)] = True
    else:
        f = _one(free, generator)
        cell[f, o if usable[f, o] else _one(usable[f].nonzero().flatten().tolist(), generator)] = True
    return {**parent, group: cell}


def _one(items: list, generator: torch.Generator):
    """One of ``items``; of a single one without a draw."""
    return items[0 if len(items) == 1 else int(torch.randint(len(items), (), generator=generator))]


def key(masks: Masks) -> bytes:
    """The same for equal architectures."""
    return b"".join(mask.numpy().tobytes() for mask in masks.values())


@dataclass(frozen=True)
class Sampling(Decide):
    """Base of selections that give the supernet whole architectures to try; all groups are settled together."""

    asks: ClassVar[bool] = True

    images: int | None = 640
    """validation images that each architecture is tried on, the same ones for all; None: every one"""
    finalists: int = 10
    """how many of the best are then tried on every validation image"""

    def __post_init__(self) -> None:
        if (self.images is not None and self.images < 1) or self.finalists < 1:
            raise OcheError(
                f"{type(self).__name__}: images={self.images}, finalists={self.finalists} try nothing; "
                "use images >= 1 or None, finalists >= 1"
            )

    def __call__(self, view: View) -> Tensor:
        raise OcheError(
            f"{type(self).__name__} compares whole architectures at the end of a search; use it as select=, not as decide= "
            "or the finish of a stage"
        )

    def conclude(self, court: Court) -> None:
        views = {group: court.view(group) for group in court.groups}
        found = next(iter(views.values())).generator
        if found is None:
            raise OcheError(
                f"{type(self).__name__} draws architectures, but was given no generator; give View.generator"
            )
        seen: dict[bytes, tuple[Masks, float]] = {}

        def score(masks: Masks) -> float:
            if key(masks) not in seen:  # asking twice gives the same answer
                seen[key(masks)] = masks, court.accuracy(masks, self.images)
            return seen[key(masks)][1]

        self.explore(court, views, score, found)
        best = sorted(seen.values(), key=lambda pair: -pair[1])[: self.finalists]
        if self.images is not None and len(best) > 1:
            best = sorted(((masks, court.accuracy(masks)) for masks, _ in best), key=lambda pair: -pair[1])
        for group, alive in best[0][0].items():
            court.narrow(group, alive)

    def explore(
        self, court: Court, views: dict[str, View], score: Callable[[Masks], float], generator: torch.Generator
    ) -> None:
        """Asks for the ``score`` of one architecture after the other; the best of all that it asks for is chosen."""
        raise NotImplementedError


@component
@dataclass(frozen=True)
class SampleBest(Sampling):
    """Random search with weight sharing (1902.07638 §3.2): the best of ``count`` architectures drawn at random.

    The defaults are those of the released code: 1,000 on 10 batches of 64, the best 10 of them on the whole validation half.
    Deviation 1 from it: all are tried on the same images there, on the next 10 batches each. Deviation 2: "none" is not
    drawn where `Dag.none` forbids it.
    """

    count: int = 1000
    """architectures that are drawn"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 1:
            raise OcheError(f"SampleBest: count={self.count} leaves nothing to choose from; use count >= 1")

    def explore(
        self, court: Court, views: dict[str, View], score: Callable[[Masks], float], generator: torch.Generator
    ) -> None:
        for _ in range(self.count):
            score(court.random(generator))


@component
@dataclass(frozen=True)
class Evolution(Sampling):
    """Regularised evolution (1802.01548 algorithm 1), the shared weights in place of a training for each architecture.

    A population of random architectures; then, again and again, the best of ``sample`` of them, drawn with replacement, has a
    child by one mutation, which joins as the oldest leaves. The best that ever lived is chosen.

    Deviation 3: no identity mutation, which there is one in twenty. Deviation 4: the ``finalists`` are tried again on all images.
    """

    population: int = 100
    """architectures alive at a time"""
    sample: int = 25
    """how many of them compete to be a parent"""
    cycles: int = 1000
    """architectures in all, the first population among them; published: 20,000, each trained on its own"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.population >= 1 and self.sample >= 1 and self.cycles >= self.population):
            raise OcheError(
                f"Evolution: population={self.population}, sample={self.sample}, cycles={self.cycles} cannot evolve; "
                "use population >= 1, sample >= 1, cycles >= population"
            )

    def explore(
        self, court: Court, views: dict[str, View], score: Callable[[Masks], float], generator: torch.Generator
    ) -> None:
        living: Scored = []
        for _ in range(self.population):
            masks = court.random(generator)
            living.append((masks, score(masks)))
        for _ in range(self.cycles - self.population):
            rivals = torch.randint(len(living), (self.sample,), generator=generator).tolist()
            parent = max((living[i] for i in rivals), key=lambda pair: pair[1])[0]
            child = mutate(parent, views, generator)
            living = [*living[1:], (child, score(child))]
