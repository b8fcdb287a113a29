"""Recurrent cells (1806.09055 §3.2, appendix A.1.2): the discrete cell of a genotype, and the mixed cell of a search.

The state s' of a node is gated between the state s of its predecessor and f applied to a product of s, with f the activation
(highway, 1607.03474). W is the matrix of the node; all edges into the node and all their candidates share it::

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
from oche.networks.rnn_autograd import ACTIVATIONS, DiscreteCellFunction, masked
from oche.networks.rnn_autograd_mixed import MixedCellFunction


class Highway(nn.Module):
    """A cell with ``nodes`` nodes: its weights, and the state of its input node, which depends on x and on the last output.

    ``fused``: compute with the hand-written gradients of `oche.networks.rnn_autograd`. The numbers are equal up to
    rounding, in less time.
    """

    fused: bool = False

    def __init__(self, width: int, nodes: int) -> None:
        super().__init__()
        self.width = width
        self.first = nn.Parameter(torch.empty(2 * width, 2 * width))  # (2H, 2H) of x and the state together
        self.nodes = nn.Parameter(torch.empty(nodes, width, 2 * width))  # (N, H, 2H)
        for weight in (self.first, self.nodes):
            nn.init.uniform_(weight, -INIT_RANGE, INIT_RANGE)

    def input_state(self, x: Tensor, state: Tensor, x_mask: Tensor | None, mask: Tensor | None) -> Tensor:
        """Return (B, H) the state of node 0, from x (B, H) and the last output (B, H)."""
        c, h = (torch.cat([masked(x, x_mask), masked(state, mask)], 1) @ self.first).split(self.width, 1)
        return state + c.sigmoid() * (h.tanh() - state)

    def forward(self, x: Tensor, state: Tensor, x_mask: Tensor | None, mask: Tensor | None, *context) -> Tensor:
        """Return (T, B, H) the outputs for x (T, B, H), starting from the output ``state`` (B, H)."""
        if self.fused and self.can_fuse(*context):
            u = masked(x, x_mask) @ self.first[: self.width]
            return self.fused_outputs(u, state, self.first[self.width :], mask, *context)
        outputs = []
        for step in x.unbind():
            state = self.step(self.input_state(step, state, x_mask, mask), mask, *context)
            outputs.append(state)
        return torch.stack(outputs)

    def step(self, start: Tensor, mask: Tensor | None, *context) -> Tensor:
        """Return (B, H) the output of the cell, from the state of node 0."""
        raise NotImplementedError

    def can_fuse(self, *context) -> bool:
        """Tell whether `fused_outputs` can compute this call."""
        return True

    def fused_outputs(self, u: Tensor, state: Tensor, weight: Tensor, mask: Tensor | None, *context) -> Tensor:
        """Return (T, B, H) the outputs, computed by one autograd function over all steps.

        u (T, B, 2H) is the product of x with its half of ``first``; ``weight`` (H, 2H) is the other half, for the state.
        """
        raise NotImplementedError


class FinalCell(Highway):
    """A discrete cell: each node has one predecessor and one activation. Its output is the mean of the nodes ``concat``.

    Raises `OcheError` for a cell of another kind.
    """

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

    def fused_outputs(self, u: Tensor, state: Tensor, weight: Tensor, mask: Tensor | None, *context) -> Tensor:
        edges = [edge[:2] for edge in self.cell.edges]
        return DiscreteCellFunction.apply(u, state, weight, self.nodes, mask, edges, self.cell.concat)  # pyright: ignore


def _check(cell: Cell) -> None:
    """Raise `OcheError` unless ``cell`` is a recurrent cell."""
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
            f"the nodes of a recurrent cell are {list(cell.nodes)}; number them from 1, after the one input node 0"
        )


class SearchCell(Highway):
    """A cell with every candidate on every edge. Its output is the mean of all nodes but the input node.

    One BatchNorm without scale and shift normalises the states of all nodes over the batch. It limits large activations
    while the mixture is undecided (appendix A.1.2).
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

    def can_fuse(self, *context: Mix) -> bool:
        """Tell whether the fused form applies: in training, unless half of the edges or more are dead.

        In evaluation the BatchNorm uses other statistics. With many dead edges the plain form is faster, because it
        leaves them out.
        """
        (mix,) = context
        return self.training and 2 * sum(map(bool, mix.active)) > len(self.dag)

    def fused_outputs(self, u: Tensor, state: Tensor, weight: Tensor, mask: Tensor | None, *context: Mix) -> Tensor:
        (mix,) = context
        alive = [[o in on for o in range(len(self.candidates))] for on in mix.active]
        used = [o for o, name in enumerate(self.candidates) if name != NONE and any(row[o] for row in alive)]
        columns = _index(used, u.device)
        weights = mix.strength()[:, columns]
        if not all(row[o] for row in alive for o in used):  # a candidate that is not evaluated gets no gradient
            weights = weights * _constant(tuple(map(tuple, alive)), u.device)[:, columns]
        names = [self.candidates[o] for o in used]
        found = MixedCellFunction.apply(u, state, weight, self.nodes, weights, mask, names, self.norm.eps)
        outputs, means, variances = found  # pyright: ignore[reportGeneralTypeIssues]
        self._update_running_statistics(means.flatten(0, 1), variances.flatten(0, 1), len(state))
        return outputs

    @torch.no_grad()
    def _update_running_statistics(self, means: Tensor, variances: Tensor, batch: int) -> None:
        """Update the running statistics as K forwards of the BatchNorm would.

        ``means`` and ``variances`` (K, H) are those of K batches of size ``batch``.
        """
        norm, count = self.norm, len(means)
        if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
            return
        assert norm.momentum is not None and norm.num_batches_tracked is not None
        decay = 1 - norm.momentum
        shares = norm.momentum * decay ** torch.arange(count - 1, -1, -1, device=means.device, dtype=means.dtype)
        norm.running_mean.mul_(decay**count).add_(shares @ means)
        norm.running_var.mul_(decay**count).add_(shares @ variances, alpha=batch / (batch - 1))
        norm.num_batches_tracked += count

    def _node(
        self, states: list[Tensor], weight: Tensor, incoming: tuple[int, ...], mask: Tensor | None, mix: Mix
    ) -> Tensor:
        """Return (B, H) the sum over the living candidates of the ``incoming`` edges, each with its weight."""
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
                among_edges, in_weights = _index(rows, s.device), _index([edges[k] for k in rows], s.device)
                out = s[among_edges] + gate[among_edges] * (ACTIVATIONS[name](h[among_edges]) - s[among_edges])
                total = total + (weights[in_weights, o, None, None] * out).sum(0)
        return total


def _index(numbers: list[int], device: torch.device) -> slice | Tensor:
    """Return ``numbers`` as an index. Consecutive numbers become a slice, which copies nothing."""
    first, last = numbers[0], numbers[-1]
    if numbers == [*range(first, last + 1)]:
        return slice(first, last + 1)
    return _constant(tuple(numbers), device)


@cache
def _constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """Return ``values`` as a tensor on the device, cached: a step that a CUDA graph replays must not copy from the host."""
    with torch.inference_mode(False):  # an inference tensor could not be saved for a backward pass
        return torch.tensor(values, device=device)
