"""Keep weights unchanged that a step does not reach, although `oche.kernels.single_path.cell` gives every weight a
gradient.

In the plain form, a weight without a path to the loss has no gradient: weights of candidates that are not chosen, and
all weights before edges that chose "none". SGD skips them. With a gradient of zero, momentum and weight decay would
still change them. Only the device knows which ones they are, so the optimiser updates all weights, and then these are
restored.

Shapes: J living edges of a cell, N nodes of it, including inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from oche.kernels.single_path.ops import Choice, Place, constant, copy_rows


@dataclass
class CellTrace:
    """One evaluation of a cell: its choice, the nodes (source, target) in ``ends`` of each edge, and the gradients
    that arrived.
    """

    choice: Choice
    ends: Sequence[tuple[int, int]]
    weights: Sequence[tuple[Place, nn.Module]]
    """the candidates' modules, by place"""
    carrying: Sequence[Place]
    """the candidates that carry anything; with partial channels all, because some channels pass by"""
    inputs: int
    nodes: int
    outside: dict[int, Tensor] = field(default_factory=dict)
    """node used outside the cell → () bool, whether its gradient is not zero"""

    def reached(self) -> Tensor:
        """Return (N,) bool: from which nodes a path leads to the loss."""
        device = self.choice.index.device
        sources, targets = (constant(tuple(part), device) for part in zip(*self.ends, strict=True))
        onward = torch.zeros(self.nodes, self.nodes, device=device)
        onward = onward.index_put((sources, targets), self.choice.has(self.carrying).float())
        used = constant(tuple(n in self.outside for n in range(self.nodes)), device, torch.bool)
        found = used & torch.stack([*self.outside.values()]).any()
        for _ in range(self.nodes):
            found = found | (onward @ found.float() > 0)
        return found

    def moves(self, reached: Tensor, places: Sequence[Place]) -> Tensor:
        """Return (len(places),) bool: which candidates are chosen and lead to nodes in ``reached`` (N,)."""
        targets = constant(tuple(self.ends[j][1] for j, _ in places), reached.device)
        return self.choice.is_(places) & reached.index_select(0, targets)


class ReachTracker:
    """The latest evaluation of every cell of a network with ``weights``."""

    def __init__(self, weights: Sequence[Tensor] = ()) -> None:
        self.weights = weights
        self.traces: dict[Any, CellTrace] = {}
        self.behind: set[int] | None = None
        """ids of the weights behind all cells: they had a gradient before one arrived at any cell"""

    def watch(self, cell: Any, trace: CellTrace, states: list[Tensor]) -> list[Tensor]:
        """Remember ``trace`` of ``cell``. Return its ``states`` for use outside the cell, with hooks on their gradients."""
        self.traces[cell], self.behind = trace, None
        outside = [state.view_as(state) for state in states]
        for n, state in enumerate(outside):
            if state.requires_grad:
                state.register_hook(partial(self._look, trace, n))
        return outside

    def _look(self, trace: CellTrace, n: int, gradient: Tensor) -> None:
        if self.behind is None:
            self.behind = {id(w) for w in self.weights if w.grad is not None}
        trace.outside[n] = (gradient.detach() != 0).any()


@contextmanager
def freeze_unreached(optimizer: torch.optim.Optimizer, reach: ReachTracker) -> Iterator[None]:
    """Within, steps of ``optimizer``, an SGD, do not change weights, or their momentum, that the latest evaluation
    does not reach.
    """
    kept: list[tuple[list[Tensor], Tensor, Tensor]] = []

    @torch.no_grad()
    def before(*_: Any) -> None:
        _create_momentum(optimizer)
        by_shape: dict[Any, list[tuple[Tensor, int]]] = {}
        weights, moves = reached_weights(optimizer, reach)
        for i, w in enumerate(weights):
            for t in (w, *(t for t in optimizer.state[w].values() if isinstance(t, Tensor))):
                by_shape.setdefault(_in_memory_order(t).shape, []).append((_in_memory_order(t), i))
        for members in by_shape.values():
            tensors, places = [list(column) for column in zip(*members, strict=True)]
            reached_rows = moves.index_select(0, constant(tuple(places), moves.device))
            kept.append((tensors, torch.stack(tensors), reached_rows.view(-1, *[1] * tensors[0].dim())))

    @torch.no_grad()
    def after(*_: Any) -> None:
        for tensors, saved, reached_rows in kept:
            copy_rows(tensors, torch.stack(tensors).where(reached_rows, saved))
        kept.clear()

    hooks = optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def reached_weights(optimizer: torch.optim.Optimizer, reach: ReachTracker) -> tuple[list[Tensor], Tensor]:
    """Return the weights with a gradient, and (len,) bool: which of them the latest evaluation reaches.

    For candidates the choice decides, because their gradient may be zero by chance, for example where a cell's map is
    zero. Other weights are reached if their gradient is not zero, if they stand behind all cells, or if every cell
    leads on from all its inputs.
    """
    weights, moves, connected = [], [], []
    for trace in reach.traces.values():
        found = [(w, place) for place, m in trace.weights for w in m.parameters() if w.grad is not None]
        reached = trace.reached()
        connected.append(reached[: trace.inputs])
        if found:
            weights += [w for w, _ in found]
            moves.append(trace.moves(reached, [place for _, place in found]))
    known = {id(w) for w in weights}
    others = [w for g in optimizer.param_groups for w in g["params"] if w.grad is not None and id(w) not in known]
    if others:
        lists: Any = torch  # operations on lists are in no public module
        slopes = torch.stack(lists._foreach_norm([w.grad for w in others], torch.inf))
        behind = constant(tuple(id(w) in (reach.behind or ()) for w in others), slopes.device, torch.bool)
        moves.append((slopes != 0) | behind | torch.cat(connected).all())
    return weights + others, torch.cat(moves)


def _create_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Create missing momentum as zeros. SGD would create it from the first gradient and weight decay."""
    for group in optimizer.param_groups:
        for w in group["params"] if group["momentum"] else ():
            if w.grad is not None and optimizer.state[w].get("momentum_buffer") is None:
                optimizer.state[w]["momentum_buffer"] = torch.zeros_like(w)


def _in_memory_order(t: Tensor) -> Tensor:
    """View a tensor in memory order, so that many tensors are copied as one."""
    return t.detach().permute(0, 2, 3, 1) if t.dim() == 4 else t.detach()
