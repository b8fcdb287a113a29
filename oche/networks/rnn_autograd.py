"""Recurrent cells unrolled over a window as one function with a gradient of its own, written out.

What that saves over the plain modules: the input's product is one for all steps; a state is masked once, not once an edge;
the candidates of an edge are weighed as they are made, and only the products in front of them are kept for the gradient; the
gradients of all edges into a node are added up by the products themselves; those of the weights of a found cell are one
product over all steps. Under `torch.autograd.grad(..., create_graph=True)` the gradient is taken of the same numbers by plain
operations, so second derivatives exist.

Shapes: T steps, B streams, H width, N nodes, E edges, O candidates; i edges enter node i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda h: h,
}


def _halves(ch: Tensor) -> tuple[Tensor, Tensor]:
    half = ch.shape[-1] // 2
    return ch[..., :half], ch[..., half:]


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


# --- activations and their derivatives, by name; y = f(h) ---------------------------------------------------------------

_SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tanh": lambda h, y: 1 - y * y,
    "relu": lambda h, y: (h > 0).to(h.dtype),
    "sigmoid": lambda h, y: y * (1 - y),
    "identity": lambda h, y: torch.ones_like(h),
}


# --- the input node -----------------------------------------------------------------------------------------------------


def _begin(u: Tensor, state: Tensor, wh: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """(ch (B, 2H), state of the input node (B, H)) from u (B, 2H), what x makes of it."""
    ch = torch.addmm(u, _masked(state, mask), wh)
    c, h = _halves(ch)
    return ch, torch.lerp(state, h.tanh(), c.sigmoid())


def _factors(ch: Tensor, s: Tensor, y: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of s + sigmoid(c) · (y − s), with y = f(h) and [c, h] = ch: by ch (..., 2H), and by s (..., H)."""
    gate, out = _halves(ch)[0].sigmoid(), torch.empty_like(ch)
    shut = 1 - gate
    dc, dh = _halves(out)
    torch.mul(gate, slope, out=dh)
    torch.mul(gate.mul_(shut), y - s, out=dc)
    return out, shut


def _through(d: Tensor, factors: Tensor) -> Tensor:
    """``factors`` (B, 2H) times d (B, H), both halves, in place."""
    factors.view(len(d), 2, -1).mul_(d.unsqueeze(1))
    return factors


# --- a cell with every candidate on every edge ----------------------------------------------------------------------------


class MixedCellFunction(torch.autograd.Function):
    """(outputs (T, B, H), means, variances (T, N + 1, H) of the states before they are normalised)."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, state: Tensor, wh: Tensor, w: Tensor, p: Tensor, mask: Tensor | None,
        names: Sequence[str], eps: float,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        steps, batch, width = u.shape[0], u.shape[1], u.shape[2] // 2
        count = len(w)
        z = u.new_empty(steps, count + 1, batch, width)
        stats = u.new_empty(2, steps, count + 1, width)
        products = [u.new_empty(steps, i, batch, 2 * width) for i in range(1, count + 1)]
        starts, raw = u.new_empty(steps, batch, 2 * width), u.new_empty(steps, batch, width)
        weights, h = _by_node(p, count), state
        hidden = torch.empty_like(z[0])
        for t in range(steps):
            ch, start = _begin(u[t], h, wh, mask)
            starts[t] = ch
            _normalise(start, z[t, 0], stats[:, t, 0], eps)
            for i in range(1, count + 1):
                before = z[t, i - 1] if mask is None else torch.mul(z[t, i - 1], mask, out=hidden[i - 1])
                if mask is None:
                    hidden[i - 1] = before
                torch.mm(hidden[:i].view(-1, width), w[i - 1], out=products[i - 1][t].view(-1, 2 * width))
                gate, carried = _mix(products[i - 1][t], z[t, :i], weights[i - 1], names)[:2]
                total = gate.mul_(carried).sum(0)
                through = weights[i - 1].sum(1)
                total += (through @ z[t, :i].reshape(i, -1)).view_as(total)
                _normalise(total, z[t, i], stats[:, t, i], eps)
            h = torch.mean(z[t, 1:], 0, out=raw[t])
        ctx.save_for_backward(u, state, wh, w, p, mask, raw)
        ctx.kept = z, (stats[1] + eps).rsqrt(), products, starts
        ctx.names, ctx.eps = names, eps
        means, variances = stats.unbind()
        ctx.mark_non_differentiable(means, variances)
        return raw, means, variances

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():
            return (*_again(ctx, grads[0], partial(mixed_cell_plain, names=ctx.names, eps=ctx.eps)), None, None)
        u, state, wh, w, p, mask, raw = ctx.saved_tensors
        z, rates, products, starts = ctx.kept
        count, width = len(w), state.shape[1]
        weights, dw = _by_node(p, count), torch.zeros_like(w)
        before = torch.cat([state[None], raw[:-1]])
        y = _halves(starts)[1].tanh()
        du, shut = _factors(starts, before, y, 1 - y * y)
        dp = [torch.zeros_like(rows) for rows in weights]
        dh = torch.zeros_like(state)
        for t in reversed(range(len(u))):
            dz = torch.zeros_like(z[t])
            dz[1:] = (dh + grads[0][t]) / count
            hidden, dhidden = _masked(z[t], mask), torch.zeros_like(z[t])
            for i in range(count, 0, -1):
                if i < count:
                    dz[i] += _masked(dhidden[i], mask)
                d = _normalise_back(dz[i], z[t, i], rates[t, i])
                dch, passed = _mix_back(d, products[i - 1][t], z[t, :i], weights[i - 1], ctx.names, dp[i - 1])
                dz[:i] += passed
                flat, rows = dch.view(-1, 2 * width), hidden[:i].view(-1, width)
                dhidden[:i].view(-1, width).addmm_(flat, w[i - 1].t())
                dw[i - 1].addmm_(rows.t(), flat)
            dz[0] += _masked(dhidden[0], mask)
            d = _normalise_back(dz[0], z[t, 0], rates[t, 0])
            dh = torch.addcmul(_masked(_through(d, du[t]) @ wh.t(), mask), d, shut[t])
        dwh = _masked(before, mask).flatten(0, 1).t() @ du.flatten(0, 1)
        return du, dh, dwh, dw, torch.cat(dp), None, None, None


def _by_node(p: Tensor, count: int) -> tuple[Tensor, ...]:
    """The weights (i, O) of the edges into each node, which the order of a `oche.core.architecture.Dag` keeps together."""
    return p.split(list(range(1, count + 1)))


def _mix(ch: Tensor, s: Tensor, weights: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """(gate, sum over candidates of weight · (f(h) − s), the f(h)), each (i, B, H); s (i, B, H), weights (i, O)."""
    c, h = _halves(ch)
    ys, total = [], None
    columns = weights[:, :, None, None].unbind(1)
    for name, weight in zip(names, columns, strict=True):
        y = ACTIVATIONS[name](h)
        ys.append(y)
        total = y * weight if total is None else total.addcmul_(y, weight)
    assert total is not None
    return c.sigmoid(), total.addcmul_(s, weights.sum(1)[:, None, None], value=-1), ys


def _mix_back(
    d: Tensor, ch: Tensor, s: Tensor, weights: Tensor, names: Sequence[str], dp: Tensor
) -> tuple[Tensor, Tensor]:
    """(gradient by ch (i, B, 2H), by s past the product (i, B, H)) from that by the node's sum ``d`` (B, H); that by the
    weights is added to ``dp`` (i, O)."""
    gate, carried, ys = _mix(ch, s, weights, names)
    out = torch.empty_like(ch)
    dc, dh = _halves(out)
    h = _halves(ch)[1]
    torch.mul(carried.mul_(d), gate * (1 - gate), out=dc)
    opened = gate * d
    slope = None
    columns = weights[:, :, None, None].unbind(1)
    for o, (name, y) in enumerate(zip(names, ys, strict=True)):
        dp[:, o] += (opened * y).sum((1, 2))
        rise = _SLOPES[name](h, y)
        slope = rise * columns[o] if slope is None else slope.addcmul_(rise, columns[o])
    assert slope is not None
    torch.mul(opened, slope, out=dh)
    shut = torch.sub(d, opened, out=opened)
    dp += (shut * s).sum((1, 2))[:, None]
    return out, shut.mul_(weights.sum(1)[:, None, None])


def _normalise(x: Tensor, out: Tensor, stats: Tensor, eps: float) -> None:
    """x (B, H) over the batch into ``out``, its mean and variance into ``stats`` (2, H)."""
    var, mean = torch.var_mean(x, 0, correction=0)
    stats[0], stats[1] = mean, var
    torch.mul(x - mean, (var + eps).rsqrt(), out=out)


def _normalise_back(d: Tensor, y: Tensor, rate: Tensor) -> Tensor:
    """The gradient by what was normalised to y (B, H), with rate (H,) = 1 / deviation."""
    return rate * (d - d.mean(0) - y * (d * y).mean(0))


def _again(ctx: Any, grad: Tensor, cell: Callable[..., Tensor]) -> tuple[Tensor | None, ...]:
    """The gradient of ``cell``, plain operations of the same inputs, which can itself be differentiated."""
    inputs = ctx.saved_tensors[:-1]  # the last one is an output
    needed = [i for i, needs in enumerate(ctx.needs_input_grad[: len(inputs)]) if needs]
    leaves = list(inputs)
    for i in needed:
        leaves[i] = inputs[i].view_as(inputs[i])  # so that the graph from here on is this function's alone
    found = torch.autograd.grad(
        cell(*leaves), [leaves[i] for i in needed], grad, create_graph=True, allow_unused=True, materialize_grads=True
    )
    result: list[Tensor | None] = [None] * len(inputs)
    for i, g in zip(needed, found, strict=True):
        result[i] = g
    return tuple(result)


def mixed_cell_plain(
    u: Tensor, state: Tensor, wh: Tensor, w: Tensor, p: Tensor, mask: Tensor | None, names: Sequence[str], eps: float
) -> Tensor:
    """The outputs of `MixedCellFunction` by operations that can be differentiated as often as one likes."""
    outputs = []
    weights = _by_node(p, len(w))
    for step in u.unbind():
        start = _begin(step, state, wh, mask)[1]
        states = [_norm(start, eps)]
        for i in range(1, len(w) + 1):
            s = torch.stack(states)
            c, h = _halves(_masked(s, mask) @ w[i - 1])
            total = 0
            for name, weight in zip(names, weights[i - 1][:, :, None, None].unbind(1), strict=True):
                total = total + weight * (s + c.sigmoid() * (ACTIVATIONS[name](h) - s))
            assert isinstance(total, Tensor)
            states.append(_norm(total.sum(0), eps))
        state = torch.stack(states[1:]).mean(0)
        outputs.append(state)
    return torch.stack(outputs)


def _norm(x: Tensor, eps: float) -> Tensor:
    var, mean = torch.var_mean(x, 0, correction=0)
    return (x - mean) * (var + eps).rsqrt()


# --- a found cell ---------------------------------------------------------------------------------------------------------


class DiscreteCellFunction(torch.autograd.Function):
    """Outputs (T, B, H) of a cell whose nodes have one (activation, source) each."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, state: Tensor, wh: Tensor, w: Tensor, mask: Tensor | None,
        edges: Sequence[tuple[str, int]], concat: Sequence[int],
    ) -> Tensor:  # fmt: skip
        steps, batch, width = u.shape[0], u.shape[1], u.shape[2] // 2
        z = u.new_empty(len(w) + 1, steps, batch, width)
        hidden = z if mask is None else torch.empty_like(z)
        products, starts = u.new_empty(len(w), steps, batch, 2 * width), torch.empty_like(u)
        raw, h = u.new_empty(steps, batch, width), state
        for t in range(steps):
            starts[t], z[0, t] = _begin(u[t], h, wh, mask)
            for i, (name, source) in enumerate(edges):
                if mask is not None and all(s != source for _, s in edges[:i]):
                    torch.mul(z[source, t], mask, out=hidden[source, t])
                c, y = _halves(torch.mm(hidden[source, t], w[i], out=products[i, t]))
                torch.lerp(z[source, t], ACTIVATIONS[name](y), c.sigmoid(), out=z[i + 1, t])
            h = torch.mean(z[_span(concat), t], 0, out=raw[t])
        ctx.save_for_backward(u, state, wh, w, mask, raw)
        ctx.kept = z, hidden, products, starts
        ctx.edges, ctx.concat = edges, concat
        return raw

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():
            return (
                *_again(ctx, grads[0], partial(discrete_cell_plain, edges=ctx.edges, concat=ctx.concat)),
                None,
                None,
            )
        u, state, wh, w, mask, raw = ctx.saved_tensors
        z, hidden, products, starts = ctx.kept
        before = torch.cat([state[None], raw[:-1]])
        y = _halves(starts)[1].tanh()
        du, shut = _factors(starts, before, y, 1 - y * y)
        nodes = [_node_factors(ch, z[s], name) for ch, (name, s) in zip(products, ctx.edges, strict=True)]
        kept, turned = _span(ctx.concat), w.transpose(1, 2).contiguous()
        dh = torch.zeros_like(state)
        for t in reversed(range(len(u))):
            dz = z.new_zeros(len(z), *state.shape)
            dz[kept] = (dh + grads[0][t]) / len(ctx.concat)
            for i in reversed(range(len(w))):
                d, before_it = dz[i + 1], dz[ctx.edges[i][1]]
                dch, closed = nodes[i]
                before_it += _masked(_through(d, dch[t]) @ turned[i], mask)
                before_it.addcmul_(d, closed[t])
            dh = torch.addcmul(_masked(_through(dz[0], du[t]) @ wh.t(), mask), dz[0], shut[t])
        dwh = _masked(before, mask).flatten(0, 1).t() @ du.flatten(0, 1)
        sources = [source for _, source in ctx.edges]
        dw = torch.stack(
            [hidden[s].flatten(0, 1).t() @ dch.flatten(0, 1) for s, (dch, _) in zip(sources, nodes, strict=True)]
        )
        return du, dh, dwh, dw, None, None, None


def _node_factors(ch: Tensor, s: Tensor, name: str) -> tuple[Tensor, Tensor]:
    h = _halves(ch)[1]
    y = ACTIVATIONS[name](h)
    return _factors(ch, s, y, _SLOPES[name](h, y))


def _span(nodes: Sequence[int]) -> slice | list[int]:
    """``nodes`` as an index, a slice where they follow one another: that copies nothing."""
    first, last = nodes[0], nodes[-1]
    return slice(first, last + 1) if [*nodes] == [*range(first, last + 1)] else [*nodes]


def discrete_cell_plain(
    u: Tensor, state: Tensor, wh: Tensor, w: Tensor, mask: Tensor | None,
    edges: Sequence[tuple[str, int]], concat: Sequence[int],
) -> Tensor:  # fmt: skip
    """The outputs of `DiscreteCellFunction` by operations that can be differentiated as often as one likes."""
    outputs = []
    for step in u.unbind():
        states = [_begin(step, state, wh, mask)[1]]
        for weight, (name, source) in zip(w, edges, strict=True):
            s = states[source]
            c, h = _halves(_masked(s, mask) @ weight)
            states.append(torch.lerp(s, ACTIVATIONS[name](h), c.sigmoid()))
        state = torch.stack([states[i] for i in concat]).mean(0)
        outputs.append(state)
    return torch.stack(outputs)
