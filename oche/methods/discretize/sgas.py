"""SGAS: edges are settled one after the other, while the search runs.

Shapes: E edges of a cell, O candidate operations; masks (E, O) bool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from oche.core.architecture import NONE
from oche.core.errors import OcheError
from oche.core.registry import component
from oche.methods.discretize.base import Decide, View, strongest


@component
@dataclass(frozen=True)
class GreedyEdge(Decide):
    """SGAS (1912.00195): settle the undecided edge with the highest score. To be called at the end of every epoch.

    With w the mixture of an edge, p = w / Σ w over its K living candidates other than "none"::

        importance  Σ w
        certainty   1 + Σ p log p / log K
        stability   mean over the ``window`` epochs before this one of Σ min(p then, p now)
        score       importance · certainty (criterion 1) · stability (criterion 2), each scaled to [0, 1] over ``scale``

    A settled edge keeps its largest p. When a node has `Dag.keep` settled edges, its other edges lose all candidates. By
    progress q, floor((q − start) / every) + 1 edges of the group should be settled. If there are fewer epochs than
    decisions, several edges are settled at once, in the order of their scores. Published: from epoch 9 of 50, every 5
    epochs.

    Deviation 1: the first decision of the released code comes at the end of the epoch numbered 9 from 0; ours comes after 9
    epochs.

    The paper names min-max scaling and no set of edges. The released code scales over all edges of the cell: decided ones
    count with their last logits. This is the default, ``scale="all"``. With ``scale="open"`` minimum and maximum are taken
    over the undecided edges (deviation 2). That ends in another cell in 26 to 38 % of simulated searches by criterion 1, in
    more than half by criterion 2 (benchmarks/deviation_sizes.py).

    Deviation 3: ties are broken by the product before scaling, then by the edge; in the released code by the edge. (With
    two undecided edges, both scores are 0 as soon as each leads in one factor.)

    Deviation 4: before the first epoch to compare with, stability is 1; in the released code it is 0.

    Raises `OcheError` for values out of range.
    """

    criterion: Literal[1, 2] = 1
    """1: importance and certainty; 2: stability as well"""
    start: float = 9 / 50
    """share of the search after which the first edge is settled"""
    every: float = 5 / 50
    """share of the search between two decisions"""
    window: int = 4
    """epochs before this one over which stability is taken"""
    scale: Literal["all", "open"] = "all"
    """edges over which scores are scaled: all of the cell, or those that are not decided"""

    former: ClassVar[Mapping[str, Any]] = {"scale": "open"}

    def __post_init__(self) -> None:
        if self.criterion not in (1, 2):
            raise OcheError(f"GreedyEdge: criterion={self.criterion} does not exist in SGAS; use 1 or 2")
        if not 0 <= self.start <= 1 or not 0 < self.every <= 1:
            raise OcheError(
                f"GreedyEdge: start={self.start}, every={self.every} must be shares of a search; "
                "use 0 <= start <= 1 and 0 < every <= 1, published: 0.18 and 0.1"
            )
        if self.window < 1:
            raise OcheError(
                f"GreedyEdge: window={self.window} leaves no epoch to compare with; use window >= 1, published: 4"
            )

    def due(self, progress: float) -> int:
        """Return the number of edges of a group that should be settled by ``progress``. A group may have fewer."""
        return max(0, floor((progress - self.start) / self.every + 1e-9) + 1)  # 1e-9: 14/50 comes after 9/50 + 5/50

    def scores(self, view: View) -> tuple[Tensor, Tensor]:
        """Return the scaled and the raw scores of the edges, (E,) each. Scores of decided edges are meaningless."""
        weights, some = self._weights(view)
        now, importance = _distribution(weights, some)
        factors = [importance, _certainty(now, some)]
        if self.criterion == 2:
            before = [_distribution(w, some)[0] for w in view.recent[:-1][-self.window :]]
            factors += [torch.stack([torch.minimum(p, now).sum(1) for p in before]).mean(0)] if before else []
        among = undecided(view) if self.scale == "open" else some.any(1)
        scaled = torch.stack([_scaled(f, among) for f in factors])
        return scaled.prod(0), torch.stack(factors).prod(0)

    def _weights(self, view: View) -> tuple[Tensor, Tensor]:
        """Return the weights (E, O) that scores are about, and the mask (E, O) of the candidates that count.

        Decided edges have those that they had among all candidates of the stage, with their logits of now.
        """
        if self.scale == "open" or view.undecided_mix is None:
            return view.mix.strength(), carrying(view)
        whole, open_ = view.undecided_mix, undecided(view)[:, None]
        begun = torch.tensor([[o in on for o in range(len(view.candidates))] for on in whole.active])
        strength = torch.where(open_.to(whole.ops.device), view.mix.strength(), whole.strength())
        return strength, carrying(view, torch.where(open_, view.alive, begun))

    def __call__(self, view: View) -> Tensor:
        alive = view.alive.clone()
        best = strongest(view.mix.strength(), carrying(view))
        open_ = undecided(view)
        settled = (carrying(view).sum(1) == 1) & (view.alive.sum(1) == 1)
        scaled, raw = self.scores(view)
        left = self.due(view.progress) - int(settled.sum())
        _close(alive, settled, open_, view)
        for e in sorted(open_.nonzero().flatten().tolist(), key=lambda e: (-scaled[e].item(), -raw[e].item(), e)):
            if left <= 0:
                break
            if not open_[e]:  # an edge before it completed its node
                continue
            alive[e] = best[e]
            settled[e], open_[e], left = True, False, left - 1
            _close(alive, settled, open_, view)
        return alive


def carrying(view: View, among: Tensor | None = None) -> Tensor:
    """Return the mask (E, O) of living candidates (or those ``among`` a mask) other than "none". SGAS never settles on
    "none", whatever `Dag.none` says.
    """
    return (view.alive if among is None else among) & torch.tensor([name != NONE for name in view.candidates])


def undecided(view: View) -> Tensor:
    """Return a bool tensor (E,): edges that still have a choice."""
    return view.alive.sum(1) > 1  # at most one of them is "none"


def _close(alive: Tensor, settled: Tensor, open_: Tensor, view: View) -> None:
    """Drop the undecided edges into nodes that have all the edges they keep; in place."""
    for incoming in map(list, view.dag.incoming):
        if settled[incoming].sum() >= view.dag.keep:
            rest = [e for e in incoming if open_[e]]
            alive[rest], open_[rest] = False, False


def _distribution(ops: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights (E, O) divided by their sum over the candidates ``among``, and that sum (E,); float64, on the CPU."""
    w = ops.detach().double().cpu().masked_fill(~among, 0)
    total = w.sum(1)
    return w / total.clamp_min(torch.finfo(w.dtype).tiny)[:, None], total


def _certainty(p: Tensor, among: Tensor) -> Tensor:
    """Return one minus the entropy of each row relative to a uniform row, (E,); 1 if there is no choice."""
    count = among.sum(1)
    return 1 - torch.special.entr(p).sum(1) / count.clamp_min(2).double().log()


def _scaled(values: Tensor, among: Tensor) -> Tensor:
    """Return ``values`` (E,) scaled linearly so that those ``among`` span [0, 1]; 0 if they are all equal."""
    if not among.any():
        return torch.zeros_like(values)
    low, high = values[among].min(), values[among].max()
    return (values - low) / (high - low) if high > low else torch.zeros_like(values)
