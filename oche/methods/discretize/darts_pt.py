"""DARTS-PT: what matters is what accuracy loses without it, not how large its weight is.

Shapes: E edges, O candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.core.registry import component
from oche.methods.discretize.base import Decide, View


@component
@dataclass(frozen=True)
class Perturbation(Decide):
    """DARTS-PT (2108.04392 algorithm 1): the selection that asks the supernet, whatever method trained it.

    Edges in random order: the candidate stays whose removal costs most validation accuracy, the weights are tuned. Then nodes
    in random order: the `Dag.keep` incoming edges stay whose removal costs most, the weights are tuned. Equal costs: the
    earlier stays. The released code takes edges out one at a time, but measures each with all others in place: the same.

    Needs ``view.evaluate``, ``view.tune`` and ``view.generator``. With E undecided edges it evaluates about E · O + E times
    and tunes once for each edge and each node (published: 5 epochs each).

    Deviation 1: a mask takes a candidate out, so that a softmax gives its weight to the others; the released code sets that
    weight to 0 and leaves the others.
    Deviation 2: one group of cells is settled after the other; there, an edge of each in turn.
    Deviation 3: "none" wins no edge where `Dag.none` forbids it; there it may, and the cell has the edge's first operation then.
    """

    asks: ClassVar[bool] = True

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
    if view.evaluate is None or view.tune is None or view.generator is None:
        missing = [name for name in ("evaluate", "tune", "generator") if getattr(view, name) is None]
        raise OcheError(
            f"Perturbation asks the trained supernet, but was given no {' and no '.join(missing)}; "
            "use it as the selection of a search (select=Perturbation()), or TopK() on bare logits"
        )
    return view.evaluate, view.tune, view.generator


def _shuffled(items: range | list[int], generator: torch.Generator) -> list[int]:
    order = torch.randperm(len(items), generator=generator, device=generator.device)
    return [items[i] for i in order.tolist()]


def _without(alive: Tensor, edge: int, candidate: int | slice = slice(None)) -> Tensor:
    mask = alive.clone()
    mask[edge, candidate] = False
    return mask
