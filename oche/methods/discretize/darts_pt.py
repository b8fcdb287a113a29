"""DARTS-PT: a candidate matters as much as the accuracy of the supernet drops without it, not as much as its weight.

Shapes: E edges of a cell, O candidate operations; masks (E, O) bool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.core.registry import component
from oche.methods.discretize.base import Decide, TrainedSupernet, View


@component
@dataclass(frozen=True)
class Perturbation(Decide):
    """DARTS-PT (2108.04392 algorithm 1): perturbation-based selection, for a supernet trained by any method.

    First, for each edge in random order: the candidate whose removal costs most validation accuracy stays, and the weights
    are tuned. Then, for each node in random order: the `Dag.keep` incoming edges whose removal costs most stay, and the
    weights are tuned. If costs tie, the earlier stays. The released code removes the edges of a node one at a time, but
    measures each with all others in place, which gives the same result.

    As in the released code, tuning is a part of the search: steps of the architecture and of the weights in turn, the weights
    at a constant tenth of their first rate, by an optimizer that is new when the selection begins. The paper says fine-tune.

    Needs ``view.evaluate``, ``view.tune`` and ``view.generator``; raises `OcheError` without them. With E undecided edges
    it evaluates about E · O + E times, and tunes once for each edge and each node (published: 5 epochs each).

    Deviation 1: a mask removes a candidate, so a softmax gives its weight to the others. The released code sets that weight
    to 0 and leaves the others.

    Deviation 2: one group of cells is settled after the other. The released code settles an edge of each in turn.

    Deviation 3: "none" wins no edge where `Dag.none` forbids it. In the released code it may, and the cell then has the
    edge's first operation.
    """

    asks_supernet: ClassVar[bool] = True

    logits: bool = True
    """whether tuning trains the architecture of the edges that are not decided, too, not the weights alone"""
    restart: bool = True
    """whether the weights are tuned by a new optimizer, without the momentum of the search"""

    former: ClassVar[Mapping[str, Any]] = {"logits": False, "restart": False}

    def conclude(self, supernet: TrainedSupernet) -> None:
        supernet.begin_tuning(self.logits, self.restart)
        super().conclude(supernet)

    def __call__(self, view: View) -> Tensor:
        evaluate, tune, generator = _means(view)
        alive, may = view.alive.clone(), view.usable
        for e in _shuffled([e for e in range(len(alive)) if alive[e].sum() > 1], generator):
            choices = may[e].nonzero().flatten().tolist()
            accuracy = {o: evaluate(_without(alive, e, o)) for o in choices} if len(choices) > 1 else {choices[0]: 0.0}
            alive[e] = False
            alive[e, min(choices, key=lambda o: accuracy[o])] = True
            tune(alive.clone())
        for node in _shuffled(range(len(view.dag.incoming)), generator):
            edges = [e for e in view.dag.incoming[node] if (alive & may)[e].any()]
            if len(edges) <= view.dag.keep:
                continue
            accuracy = {e: evaluate(_without(alive, e)) for e in edges}
            for e in sorted(edges, key=lambda e: accuracy[e])[view.dag.keep :]:
                alive[e] = False
            tune(alive.clone())
        return alive & may


def _means(view: View) -> tuple[Callable[[Tensor], float], Callable[[Tensor], None], torch.Generator]:
    """Return the view's ``evaluate``, ``tune`` and ``generator``. Raises `OcheError` if one is missing."""
    if view.evaluate is None or view.tune is None or view.generator is None:
        missing = [name for name in ("evaluate", "tune", "generator") if getattr(view, name) is None]
        raise OcheError(
            f"Perturbation evaluates the trained supernet, but was given no {' and no '.join(missing)}; "
            "use it as the selection of a search (select=Perturbation()), or TopK() on bare logits"
        )
    return view.evaluate, view.tune, view.generator


def _shuffled(items: range | list[int], generator: torch.Generator) -> list[int]:
    """Return ``items`` in random order."""
    order = torch.randperm(len(items), generator=generator, device=generator.device)
    return [items[i] for i in order.tolist()]


def _without(alive: Tensor, edge: int, candidate: int | slice = slice(None)) -> Tensor:
    """Return the mask without ``candidate`` on ``edge``; by default without the whole edge."""
    mask = alive.clone()
    mask[edge, candidate] = False
    return mask
