"""Selections that search for the best architecture by its accuracy in the trained supernet.

An architecture is a dictionary of masks (E, O) bool, one for each group of edges. E: edges of a cell, O: candidate
operations.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from oche.blackbox.base import Proposals, Report
from oche.blackbox.evolution import AgeingEvolution, Population
from oche.blackbox.random_search import Draws
from oche.core.architecture import Dag
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.methods.discretize.base import Decide, TrainedSupernet, View

Masks = dict[str, Tensor]


def random_cell(usable: Tensor, dag: Dag, generator: torch.Generator) -> Tensor:
    """Return the mask (E, O) of a random cell: `Dag.keep` distinct incoming edges of each node, on each one ``usable``
    candidate.
    """
    kept = torch.zeros_like(usable)
    for incoming in dag.incoming:
        edges = [e for e in incoming if usable[e].any()]
        for i in torch.randperm(len(edges), generator=generator)[: dag.keep].tolist():
            kept[edges[i], _choose(usable[edges[i]].nonzero().flatten().tolist(), generator)] = True
    return kept


def mutate(parent: Masks, views: dict[str, View], generator: torch.Generator) -> Masks:
    """Return ``parent`` with one mutation (1802.01548 §3.2): an edge gets another candidate, or its candidate another
    source.

    The cell and the edge are drawn at random, and so is the kind of mutation where both are possible. The sources of a node
    stay distinct.
    """
    group = _choose([*parent], generator)
    cell, usable, dag = parent[group].clone(), views[group].usable, views[group].dag
    e = _choose(cell.any(1).nonzero().flatten().tolist(), generator)
    o = int(cell[e].nonzero()[0])
    others = [p for p in usable[e].nonzero().flatten().tolist() if p != o]
    target = dag.edges[e][1]
    free = [f for f, (_, j) in enumerate(dag.edges) if j == target and usable[f].any() and not cell[f].any()]
    if not others and not free:
        return dict(parent)
    cell[e] = False
    if _choose([kind for kind in (others, free) if kind], generator) is others:
        cell[e, _choose(others, generator)] = True
    else:
        f = _choose(free, generator)
        cell[f, o if usable[f, o] else _choose(usable[f].nonzero().flatten().tolist(), generator)] = True
    return {**parent, group: cell}


def _choose(items: list, generator: torch.Generator):
    """Return one of ``items`` at random. A single item is returned without a draw."""
    return items[0 if len(items) == 1 else int(torch.randint(len(items), (), generator=generator))]


def architecture_key(masks: Masks) -> bytes:
    """Return bytes that are equal exactly for equal architectures."""
    return b"".join(mask.numpy().tobytes() for mask in masks.values())


class TorchRandom(random.Random):
    """Random numbers from a generator of torch, whose state a checkpoint keeps."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(0)
        self.generator = generator

    def randrange(self, start: int, *args: int) -> int:
        assert not args
        return int(torch.randint(start, (), generator=self.generator))


class _MaskVariation:
    """Random masks of a supernet, and mutations of masks, as `oche.blackbox.moves.Variation`."""

    def __init__(self, supernet: TrainedSupernet, views: dict[str, View], generator: torch.Generator) -> None:
        self.supernet, self.views, self.generator = supernet, views, generator

    def random(self, g: random.Random) -> Masks:
        return self.supernet.random(self.generator)

    def mutate(self, x: Masks, g: random.Random) -> Masks:
        return mutate(x, self.views, self.generator)


def _ask_and_score(proposals: Proposals, score: Callable[[Masks], float], count: int) -> None:
    """Answer ``count`` proposals of masks."""
    for _ in range(count):
        ask = proposals.ask()
        assert ask is not None  # all before it are answered
        masks = cast(Masks, ask.genotype)
        proposals.tell(ask, Report(score(masks), 1.0))


@dataclass(frozen=True)
class Sampling(Decide):
    """Base of selections that evaluate whole architectures in the supernet. All groups are settled together."""

    asks_supernet: ClassVar[bool] = True

    images: int | None = 640
    """validation images that each architecture is evaluated on, the same ones for all; None: every image"""
    finalists: int = 10
    """number of the best architectures that are then evaluated on every validation image"""

    def __post_init__(self) -> None:
        if (self.images is not None and self.images < 1) or self.finalists < 1:
            raise OcheError(
                f"{type(self).__name__}: images={self.images}, finalists={self.finalists} evaluate nothing; "
                "use images >= 1 or None, finalists >= 1"
            )

    def __call__(self, view: View) -> Tensor:
        raise OcheError(
            f"{type(self).__name__} compares whole architectures at the end of a search; use it as select=, not as decide= "
            "or the finish of a stage"
        )

    def conclude(self, supernet: TrainedSupernet) -> None:
        views = {group: supernet.view(group) for group in supernet.groups}
        generator = next(iter(views.values())).generator
        if generator is None:
            raise OcheError(
                f"{type(self).__name__} draws architectures, but was given no generator; give View.generator"
            )
        seen: dict[bytes, tuple[Masks, float]] = {}

        def score(masks: Masks) -> float:
            if architecture_key(masks) not in seen:  # the same architecture has the same accuracy
                seen[architecture_key(masks)] = masks, supernet.accuracy(masks, self.images)
            return seen[architecture_key(masks)][1]

        self.explore(supernet, views, score, generator)
        best = sorted(seen.values(), key=lambda pair: -pair[1])[: self.finalists]
        if self.images is not None and len(best) > 1:
            best = sorted(((masks, supernet.accuracy(masks)) for masks, _ in best), key=lambda pair: -pair[1])
        for group, alive in best[0][0].items():
            supernet.narrow(group, alive)

    def explore(
        self,
        supernet: TrainedSupernet,
        views: dict[str, View],
        score: Callable[[Masks], float],
        generator: torch.Generator,
    ) -> None:
        """Call ``score`` for one architecture after the other. The best architecture scored is chosen."""
        raise NotImplementedError


@component
@dataclass(frozen=True)
class SampleBest(Sampling):
    """Random search with weight sharing (1902.07638 §3.2): the best of ``count`` random architectures.

    The defaults are those of the released code: 1,000 architectures on 10 batches of 64, then the best 10 on the whole
    validation half.

    Deviation 1: all architectures are evaluated on the same images. In the released code each is evaluated on the next 10
    batches.

    Deviation 2: "none" is not drawn where `Dag.none` forbids it.
    """

    count: int = 1000
    """architectures to draw"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 1:
            raise OcheError(f"SampleBest: count={self.count} leaves nothing to choose from; use count >= 1")

    def explore(
        self,
        supernet: TrainedSupernet,
        views: dict[str, View],
        score: Callable[[Masks], float],
        generator: torch.Generator,
    ) -> None:
        variation = _MaskVariation(supernet, views, generator)
        _ask_and_score(Draws(variation, TorchRandom(generator)), score, self.count)


@component
@dataclass(frozen=True)
class SampleMixture(Sampling):
    """The best of ``count`` architectures drawn from the mixture: ENAS' choice at its end (1802.03268 §2.3).

    The edges of a node are drawn one after the other in proportion to their weights, and one candidate of each in proportion
    to the candidates' weights.

    Deviation 5: the released code evaluates each on one batch of validation images.
    """

    count: int = 10
    """architectures to draw; the released code has 10"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 1:
            raise OcheError(f"SampleMixture: count={self.count} leaves nothing to choose from; use count >= 1")

    def explore(
        self,
        supernet: TrainedSupernet,
        views: dict[str, View],
        score: Callable[[Masks], float],
        generator: torch.Generator,
    ) -> None:
        for _ in range(self.count):
            score({name: drawn_cell(view, generator) for name, view in views.items()})


def drawn_cell(view: View, generator: torch.Generator) -> Tensor:
    """Return the mask (E, O) of a cell drawn from the mixture of ``view``."""
    usable, mix, dag = view.usable.cpu(), view.mix, view.dag
    ops = mix.ops.detach().double().cpu().masked_fill(~usable, 0)
    edges = ops.new_ones(len(dag)) if mix.edges is None else mix.edges.detach().double().cpu()
    kept = torch.zeros_like(usable)
    for incoming in dag.incoming:
        some = [e for e in incoming if usable[e].any()]
        weights = edges[some].clamp_min(1e-12)
        for i in torch.multinomial(weights, min(dag.keep, len(some)), generator=generator).tolist():
            row = ops[some[i]]
            row = row if bool(row.any()) else usable[some[i]].double()
            kept[some[i], int(torch.multinomial(row, 1, generator=generator))] = True
    return kept


@component
@dataclass(frozen=True)
class Evolution(Sampling):
    """Regularised evolution (1802.01548 algorithm 1), with accuracy in the supernet in place of a training of each
    architecture. It is `oche.blackbox.evolution.AgeingEvolution` on masks. The best architecture ever scored is chosen.

    Deviation 3: there is no identity mutation, which is one in twenty in the paper.

    Deviation 4: the ``finalists`` are evaluated again on all images.
    """

    population: int = 100
    """architectures alive at a time"""
    sample: int = 25
    """architectures that compete to be the parent"""
    cycles: int = 1000
    """architectures in all, including the first population; published: 20,000, each trained by itself"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.population >= 1 and self.sample >= 1 and self.cycles >= self.population):
            raise OcheError(
                f"Evolution: population={self.population}, sample={self.sample}, cycles={self.cycles} cannot evolve; "
                "use population >= 1, sample >= 1, cycles >= population"
            )

    def explore(
        self,
        supernet: TrainedSupernet,
        views: dict[str, View],
        score: Callable[[Masks], float],
        generator: torch.Generator,
    ) -> None:
        settings = AgeingEvolution(self.population, self.sample)
        variation = _MaskVariation(supernet, views, generator)
        _ask_and_score(Population(settings, variation, TorchRandom(generator)), score, self.cycles)
