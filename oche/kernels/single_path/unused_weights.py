"""What a step does not reach rests in it, although `oche.kernels.single_path.cell` gives every weight a gradient: zero.

The plain form leaves weights without one where nothing leads from them to the loss: those of candidates that are not chosen, and
all those that stand before edges that chose "none". SGD passes over them; with a gradient of zero, momentum and decay would
still move them. Which ones rest only the device knows, so the optimiser moves all of them, and some are put back.

Shapes: J living edges of a cell, N nodes of it, inputs among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from oche.kernels.single_path.ops import Choice, Place, constant, put


@dataclass
class Trace:
    """One evaluation of a cell: what its edges, from and to nodes as ``ends`` says, chose, and what its backward found."""

    choice: Choice
    ends: Sequence[tuple[int, int]]
    weights: Sequence[tuple[Place, nn.Module]]
    """candidates, by place"""
    carrying: Sequence[Place]
    """those that carry anything; of partial channels all, since some go past them"""
    inputs: int
    nodes: int
    outside: dict[int, Tensor] = field(default_factory=dict)
    """() bool for every node that is used outside the cell: whether there is a gradient there"""

    def reached(self) -> Tensor:
        """(N,) bool, from which nodes something leads to the loss."""
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
        """(len(places),) bool, which candidates are chosen and lead to nodes that are ``reached`` (N,)."""
        targets = constant(tuple(self.ends[j][1] for j, _ in places), reached.device)
        return self.choice.is_(places) & reached.index_select(0, targets)


class Reach:
    """The latest evaluation of every cell of a network with ``weights``."""

    def __init__(self, weights: Sequence[Tensor] = ()) -> None:
        self.weights = weights
        self.traces: dict[Any, Trace] = {}
        self.behind: set[int] | None = None
        """ids of the weights that stand behind all cells: their gradient was there before one came to any cell"""

    def watch(self, cell: Any, trace: Trace, states: list[Tensor]) -> list[Tensor]:
        """Remembers ``trace`` of ``cell``; its ``states`` for use outside, where their gradients will be looked at."""
        self.traces[cell], self.behind = trace, None
        outside = [state.view_as(state) for state in states]
        for n, state in enumerate(outside):
            if state.requires_grad:
                state.register_hook(partial(self._look, trace, n))
        return outside

    def _look(self, trace: Trace, n: int, gradient: Tensor) -> None:
        if self.behind is None:
            self.behind = {id(w) for w in self.weights if w.grad is not None}
        trace.outside[n] = (gradient.detach() != 0).any()


@contextmanager
def resting(optimizer: torch.optim.Optimizer, reach: Reach) -> Iterator[None]:
    """Within, steps of ``optimizer``, which is SGD, leave weights and their momentum as they are where the latest evaluation
    does not ``reach``."""
    kept: list[tuple[list[Tensor], Tensor, Tensor]] = []

    @torch.no_grad()
    def before(*_: Any) -> None:
        _begin(optimizer)
        alike: dict[Any, list[tuple[Tensor, int]]] = {}
        weights, moves = moving(optimizer, reach)
        for i, w in enumerate(weights):
            for t in (w, *(t for t in optimizer.state[w].values() if isinstance(t, Tensor))):
                alike.setdefault(_rows(t).shape, []).append((_rows(t), i))
        for members in alike.values():
            tensors, places = [list(column) for column in zip(*members, strict=True)]
            some = moves.index_select(0, constant(tuple(places), moves.device))
            kept.append((tensors, torch.stack(tensors), some.view(-1, *[1] * tensors[0].dim())))

    @torch.no_grad()
    def after(*_: Any) -> None:
        for tensors, was, some in kept:
            put(tensors, torch.stack(tensors).where(some, was))
        kept.clear()

    hooks = optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def moving(optimizer: torch.optim.Optimizer, reach: Reach) -> tuple[list[Tensor], Tensor]:
    """The weights that have a gradient, and (len,) bool, which of them the latest evaluation reaches.

    Of candidates that follows from the choices, since a gradient may be zero by chance, where a cell's map is zero, say. That of
    the others is zero by chance behind the cells, and where every cell leads on from all its inputs; else nothing leads on."""
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


def _begin(optimizer: torch.optim.Optimizer) -> None:
    """Makes momentum where there is none yet, zeros: SGD would make it of the first gradient and weight decay."""
    for group in optimizer.param_groups:
        for w in group["params"] if group["momentum"] else ():
            if w.grad is not None and optimizer.state[w].get("momentum_buffer") is None:
                optimizer.state[w]["momentum_buffer"] = torch.zeros_like(w)


def _rows(t: Tensor) -> Tensor:
    """A view in the order in which memory has it, so that many of them are copied as one."""
    return t.detach().permute(0, 2, 3, 1) if t.dim() == 4 else t.detach()
