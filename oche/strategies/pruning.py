"""TE-NAS (Chen et al., ICLR 2021, 2102.11535): a supernet at its initialisation loses candidates by training-free scores.

Nothing is trained. Shapes: B images, E edges of a cell, O candidate operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from oche.core.architecture import NONE, Genotype, Mix, alive_candidates
from oche.core.arguments import checked
from oche.core.errors import OcheError
from oche.core.seeds import derive_seed, generator
from oche.data import Dataset, prepare
from oche.spaces.base import Space
from oche.spaces.mixed_ops import MixedEdge
from oche.strategies.training_free import ntk, relu_codes

Masks = dict[str, Tensor]
Removal = tuple[str, int, int]  # group, edge, candidate
Measure = Callable[[Masks], tuple[float, float]]  # masks -> condition number of the kernel, number of regions


@checked
@dataclass(frozen=True)
class PruningConfig:
    """The sizes of the two networks that are scored. The defaults are those of NAS-Bench-201 in the released code."""

    channels: int = 3
    """width of the network of the neural tangent kernel"""
    batch: int = 72
    """images of the kernel"""
    inputs: int = 1000
    """random inputs of the count of linear regions, in each of ``region_batches``"""
    side: int = 8
    """their side in pixels"""
    region_batches: int = 3
    """counts of regions that are averaged"""
    repeats: int = 3
    """draws of the weights that are averaged"""

    def __post_init__(self) -> None:
        for name in ("channels", "inputs", "side", "region_batches", "repeats"):
            if getattr(self, name) < 1:
                raise OcheError(f"{name}={getattr(self, name)} measures nothing; use 1 or more")
        if self.batch < 2:
            raise OcheError(f"batch={self.batch} has no condition number; use 2 or more")


@dataclass(frozen=True)
class Pruned:
    """The cells that are left, and the candidates in the order in which they were removed, round by round."""

    genotype: Genotype
    rounds: list[list[Removal]]


@checked
def prune_by_scores(space: Space, data: Dataset, *, seed: int = 0, config: PruningConfig | None = None) -> Pruned:
    """Return the cells that TE-NAS leaves of ``space``, fitted to ``data`` (2102.11535 algorithm 1).

    It starts without "none". In each round every living candidate is removed alone, and two relative falls are measured: of
    the condition number κ of the neural tangent kernel, where the largest is best, and of the number of linear regions R,
    where the smallest is. Both are ranked over all candidates, equal to three digits sharing a rank, and each edge
    loses the candidate with the smallest sum of ranks. At the end nodes lose edges in the same way, until they keep
    `Dag.keep`.

    Deviation 1: every edge loses one candidate a round, in all spaces. The released code removes three at first in the DARTS
    space.
    Deviation 2: the network of the regions has one channel and a stem. The released code's has none.
    Deviation 3: the living candidates of an edge are averaged. Deviation 4: the inputs of the regions have 8 x 8 pixels, the
    smallest that the networks take; the released code has 3 x 3.

    Raises `OcheError` for a space without cells of images.
    """
    if space.domain != "images":
        raise OcheError("TE-NAS scores networks for images; use nb201 or darts")
    fitted = space.fit(data)
    return prune(fitted, _Scores(fitted, data, seed, config or PruningConfig()))


def prune(space: Space, measure: Measure) -> Pruned:
    """Prune all candidates of ``space`` but "none" by ``measure``, until a cell is left."""
    masks = {name: torch.ones(len(dag), len(space.candidates), dtype=torch.bool) for name, dag in space.groups.items()}
    if NONE in space.candidates:
        for mask in masks.values():
            mask[:, space.candidates.index(NONE)] = False
    rounds: list[list[Removal]] = []
    while removals := [(n, e, o) for n, mask in masks.items() for e, o in mask.nonzero().tolist() if mask[e].sum() > 1]:
        rounds.append(_round(masks, removals, measure, lambda name, e: (name, e)))
    while removals := [
        (name, e, int(masks[name][e].nonzero()[0]))
        for name, dag in space.groups.items()
        for incoming in dag.incoming
        if sum(bool(masks[name][e].any()) for e in incoming) > dag.keep
        for e in incoming
        if masks[name][e].any()
    ]:
        rounds.append(_round(masks, removals, measure, lambda name, e: (name, space.groups[name].edges[e][1])))
    return Pruned(space.read(masks), rounds)


def _round(masks: Masks, removals: list[Removal], measure: Measure, place: Callable[[str, int], Any]) -> list[Removal]:
    """Remove, at each place, the one of ``removals`` with the smallest sum of ranks; return those removed."""
    whole, regions = measure(masks)
    falls = []
    for name, e, o in removals:
        without = {**masks, name: masks[name].clone()}
        without[name][e, o] = False
        kappa, left = measure(without)
        falls.append(((whole - kappa) / whole, (regions - left) / regions))
    condition = shared_ranks([-fall for fall, _ in falls])
    expressivity = shared_ranks([fall for _, fall in falls])
    best: dict[Any, tuple[int, Removal]] = {}
    for removal, a, b in zip(removals, condition, expressivity, strict=True):
        at = place(*removal[:2])
        if at not in best or a + b < best[at][0]:
            best[at] = a + b, removal
    gone = [removal for _, removal in best.values()]
    for name, e, o in gone:
        masks[name][e, o] = False
    return gone


def shared_ranks(values: list[float]) -> list[int]:
    """Return the rank of each value, the smallest 0; values that are equal to three significant digits share a rank."""
    rounded = [float(f"{value:.2e}") for value in values]
    order = {value: rank for rank, value in enumerate(sorted({*rounded}))}
    return [order[value] for value in rounded]


class _Mixed(nn.Module):
    """A supernet with a mixture, as a network of images alone."""

    def __init__(self, net: nn.Module, mixes: Mapping[str, Mix]) -> None:
        super().__init__()
        self.net, self.mixes = net, mixes

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x, self.mixes)


class _Scores:
    """The condition number and the number of regions of fresh supernets with given masks, means over draws."""

    def __init__(self, space: Space, data: Dataset, seed: int, config: PruningConfig) -> None:
        if len(data.train) < config.batch:
            raise OcheError(
                f"batch={config.batch} is more than the {len(data.train)} training images; use a smaller batch"
            )
        self.config, self.seed = config, seed
        images, _ = data.train.gather(
            torch.randperm(len(data.train), generator=generator(seed, "batch"))[: config.batch]
        )
        self.images = prepare(images, data.mean, data.std)
        side = (config.side, config.side)
        sizes: list[tuple[Literal["fan_in", "fan_out"], dict[str, Any]]] = [
            ("fan_out", {"channels": config.channels, "cells": 1}),
            ("fan_in", {"channels": 1, "cells": 1, "in_channels": 1, "image": side}),
        ]
        self.spaces: list[tuple[Literal["fan_in", "fan_out"], Space]] = [
            (mode, replace(space, **_known(space, size))) for mode, size in sizes
        ]

    def __call__(self, masks: Masks) -> tuple[float, float]:
        kappas, counts = [], []
        for repeat in range(self.config.repeats):
            kernel = ntk(self._net(0, repeat, masks), self.images)
            kappas.append(_condition(kernel))
            net = self._net(1, repeat, masks)
            for batch in range(self.config.region_batches):
                g = generator(self.seed, "inputs", repeat, batch)
                x = torch.randn(self.config.inputs, 1, self.config.side, self.config.side, generator=g)
                counts.append(float(len(torch.unique(relu_codes(net, x), dim=0))))
        return sum(kappas) / len(kappas), sum(counts) / len(counts)

    def _net(self, which: int, repeat: int, masks: Masks) -> nn.Module:
        mode, space = self.spaces[which]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "weights", repeat))
            net = space.supernet(MixedEdge()).train()
            for m in net.modules():
                if isinstance(m, nn.Conv2d):
                    nn.init.kaiming_normal_(m.weight, mode=mode)
        mixes = {name: Mix(_uniform(masks[name]), None, alive_candidates(masks[name])) for name in space.groups}
        return _Mixed(net, mixes)


def _known(space: Space, sizes: dict[str, Any]) -> dict[str, Any]:
    """Return those of ``sizes`` that ``space`` has. A supernet of the DARTS space needs a cell of each kind: three cells."""
    found = {name: value for name, value in sizes.items() if hasattr(space, name)}
    return {**found, "cells": 3} if len(space.groups) > 1 and "cells" in found else found


def _uniform(mask: Tensor) -> Tensor:
    return mask.float() / mask.sum(1, keepdim=True).clamp_min(1)


def _condition(kernel: Tensor) -> float:
    """Return λ_max / λ_min; 1e5 where it is not finite, as in the released code."""
    if not bool(kernel.isfinite().all()):
        return 1e5
    values = torch.linalg.eigvalsh(kernel)
    found = float(values[-1] / values[0])
    return found if math.isfinite(found) and found > 0 else 1e5
