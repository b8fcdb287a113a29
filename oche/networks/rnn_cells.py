"""Recurrent cells (1806.09055 §3.2, appendix A.1.2): the discrete one of a genotype, and the one of a search.

A node's state is gated between its predecessor s and what an activation f makes of it (highway, 1607.03474), with W the
matrix of the node, one for all edges that enter it and all their candidates::

    [c, h] = (s · mask) W      s' = s + sigmoid(c) · (f(h) − s)

Shapes: T steps, B streams, H width, N nodes, E edges of a cell, O candidates.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.architecture import NONE, Cell, Dag, Mix
from oche.core.errors import OcheError, did_you_mean
from oche.networks.language_model import INIT_RANGE
from oche.networks.rnn_autograd import ACTIVATIONS, DiscreteCellFunction, MixedCellFunction


class Highway(nn.Module):
    """Weights of a cell of ``nodes`` nodes, and the state that its input node makes of x and of the last output.

    ``fused``: whether it computes as in `oche.networks.rnn_autograd`, the same numbers up to rounding in less time.
    """

    fused: bool = False

    def __init__(self, width: int, nodes: int) -> None:
        super().__init__()
        self.width = width
        self.first = nn.Parameter(torch.empty(2 * width, 2 * width))  # (2H, 2H) of x and the state together
        self.nodes = nn.Parameter(torch.empty(nodes, width, 2 * width))  # (N, H, 2H)
        for weight in (self.first, self.nodes):
            nn.init.uniform_(weight, -INIT_RANGE, INIT_RANGE)

    def begin(self, x: Tensor, state: Tensor, x_mask: Tensor | None, mask: Tensor | None) -> Tensor:
        """(B, H) the state of node 0, from x (B, H) and the last output (B, H)."""
        c, h = (torch.cat([masked(x, x_mask), masked(state, mask)], 1) @ self.first).split(self.width, 1)
        return state + c.sigmoid() * (h.tanh() - state)

    def forward(self, x: Tensor, state: Tensor, x_mask: Tensor | None, mask: Tensor | None, *context) -> Tensor:
        """(T, B, H) the outputs for x (T, B, H)."""
        if self.fused and self.fusible(*context):
            u = masked(x, x_mask) @ self.first[: self.width]
            return self.unrolled(u, state, self.first[self.width :], mask, *context)
        outputs = []
        for step in x.unbind():
            state = self.step(self.begin(step, state, x_mask, mask), mask, *context)
            outputs.append(state)
        return torch.stack(outputs)

    def step(self, start: Tensor, mask: Tensor | None, *context) -> Tensor:
        """(B, H) the cell's output, from the state of node 0."""
        raise NotImplementedError

    def fusible(self, *context) -> bool:
        """Whether `unrolled` knows what is asked."""
        return True

    def unrolled(self, u: Tensor, state: Tensor, weight: Tensor, mask: Tensor | None, *context) -> Tensor:
        """(T, B, H) the outputs for u (T, B, 2H), what x makes of itself, by the fast path; weight (H, 2H) of the state."""
        raise NotImplementedError


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """x · mask, or x without one."""
    return x if mask is None else x * mask


class FinalCell(Highway):
    """A discrete cell: each node has one predecessor and one activation; its output is the mean of ``concat``."""

    def __init__(self, cell: Cell, width: int) -> None:
        _check(cell)
        super().__init__(width, len(cell.nodes))
        self.cell = cell

    def step(self, start: Tensor, mask: Tensor | None, *context) -> Tensor:
        states = [start]
        for weight, (name, source, _) in zip(self.nodes, self.cell.edges, strict=True):
            s = states[source]
            c, h = (masked(s, mask) @ weight).split(self.width, 1)
            states.append(s + c.sigmoid() * (ACTIVATIONS[name](h) - s))
        return torch.stack([states[i] for i in self.cell.concat]).mean(0)

    def unrolled(self, u: Tensor, state: Tensor, weight: Tensor, mask: Tensor | None, *context) -> Tensor:
        edges = [edge[:2] for edge in self.cell.edges]
        return DiscreteCellFunction.apply(u, state, weight, self.nodes, mask, edges, self.cell.concat)  # pyright: ignore


def _check(cell: Cell) -> None:
    """Raises `OcheError` for a cell that is not of this kind."""
    for name, _, target in cell.edges:
        if name not in ACTIVATIONS:
            raise OcheError(
                f"a recurrent cell has no operation {name!r}{did_you_mean(name, list(ACTIVATIONS))}; "
                f"its activations are {', '.join(ACTIVATIONS)}"
            )
        if sum(t == target for _, _, t in cell.edges) > 1:
            raise OcheError(f"node {target} of a recurrent cell has several incoming edges; give it one")
    if cell.nodes != tuple(range(1, len(cell.edges) + 1)):
        raise OcheError(
            f"the nodes of a recurrent cell are {list(cell.nodes)}; they have one input node, 0, and are numbered from 1"
        )


class SearchCell(Highway):
    """A cell with every candidate on every edge; its output is the mean of all nodes but the first.

    The states of all nodes are normalised over the batch by one BatchNorm without scale and shift, which holds large
    activations down while the mixture is undecided (appendix A.1.2).
    """

    def __init__(self, dag: Dag, candidates: tuple[str, ...], width: int) -> None:
        super().__init__(width, dag.nodes)
        self.dag, self.candidates = dag, candidates
        self.norm = nn.BatchNorm1d(width, affine=False)

    def step(self, start: Tensor, mask: Tensor | None, *context: Mix) -> Tensor:
        (mix,) = context
        states = [self.norm(start)]
        for weight, incoming in zip(self.nodes, self.dag.incoming, strict=True):
            states.append(self.norm(self._node(states, weight, incoming, mask, mix)))
        return torch.stack(states[1:]).mean(0)

    def fusible(self, *context: Mix) -> bool:
        """In evaluation BatchNorm is another one; where most edges are dead, leaving them out is worth more."""
        (mix,) = context
        return self.training and 2 * sum(map(bool, mix.active)) > len(self.dag)

    def unrolled(self, u: Tensor, state: Tensor, weight: Tensor, mask: Tensor | None, *context: Mix) -> Tensor:
        (mix,) = context
        alive = [[o in on for o in range(len(self.candidates))] for on in mix.active]
        used = [o for o, name in enumerate(self.candidates) if name != NONE and any(row[o] for row in alive)]
        columns = _places(used, u.device)
        weights = mix.strength()[:, columns]
        if not all(row[o] for row in alive for o in used):  # what is not evaluated has no gradient, either
            weights = weights * _constant(tuple(map(tuple, alive)), u.device)[:, columns]
        names = [self.candidates[o] for o in used]
        found = MixedCellFunction.apply(u, state, weight, self.nodes, weights, mask, names, self.norm.eps)
        raw, means, variances = found  # pyright: ignore[reportGeneralTypeIssues]
        self._track(means.flatten(0, 1), variances.flatten(0, 1), len(state))
        return raw

    @torch.no_grad()
    def _track(self, means: Tensor, variances: Tensor, batch: int) -> None:
        """Moves the running statistics as so many forwards of the BatchNorm would; means, variances (K, H)."""
        norm, count = self.norm, len(means)
        if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
            return
        assert norm.momentum is not None and norm.num_batches_tracked is not None
        stay = 1 - norm.momentum
        shares = norm.momentum * stay ** torch.arange(count - 1, -1, -1, device=means.device, dtype=means.dtype)
        norm.running_mean.mul_(stay**count).add_(shares @ means)
        norm.running_var.mul_(stay**count).add_(shares @ variances, alpha=batch / (batch - 1))
        norm.num_batches_tracked += count

    def _node(
        self, states: list[Tensor], weight: Tensor, incoming: tuple[int, ...], mask: Tensor | None, mix: Mix
    ) -> Tensor:
        """(B, H) the sum of what the living candidates of its edges carry."""
        edges = [e for e in incoming if any(self.candidates[o] != NONE for o in mix.active[e])]
        total = torch.zeros_like(states[0])
        if not edges:
            return total
        s = torch.stack([states[self.dag.edges[e][0]] for e in edges])  # (edges, B, H)
        c, h = (masked(s, mask) @ weight).split(self.width, 2)
        gate, weights = c.sigmoid(), mix.strength()
        for o, name in enumerate(self.candidates):
            rows = [k for k, e in enumerate(edges) if name != NONE and o in mix.active[e]]
            if rows:
                every, where = _places(rows, s.device), _places([edges[k] for k in rows], s.device)
                carried = s[every] + gate[every] * (ACTIVATIONS[name](h[every]) - s[every])
                total = total + (weights[where, o, None, None] * carried).sum(0)
        return total


def _places(numbers: list[int], device: torch.device) -> slice | Tensor:
    """``numbers`` as an index: a slice where they follow one another, which copies nothing."""
    first, last = numbers[0], numbers[-1]
    if numbers == [*range(first, last + 1)]:
        return slice(first, last + 1)
    return _constant(tuple(numbers), device)


@cache
def _constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """``values`` on the device, brought there once: what a graph replays moves nothing from the host."""
    with torch.inference_mode(False):  # so that gradients may keep it
        return torch.tensor(values, device=device)
