"""The mixed recurrent cell of a search, with every candidate on every edge, as one autograd function.

Node i mixes all candidates o of its edges from nodes j < i, with the weights p (E, O), and normalises the sum over the batch::

    z_i = norm(sum over j, o of p[j → i, o] · (z_j + sigmoid(c_j) · (f_o(h_j) − z_j)))      [c_j, h_j] = (z_j · mask) w_i

Shapes and names: see `oche.networks.rnn_autograd`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from oche.networks.rnn_autograd import (
    ACTIVATIONS,
    SLOPES,
    chain_rule,
    differentiable_gradients,
    halves,
    highway_derivatives,
    input_node,
    masked,
)


class MixedCellFunction(torch.autograd.Function):
    """The outputs (T, B, H), and the means and variances (T, N + 1, H) of the states before they are normalised.

    ``names``: the activation of each of the O candidates. Only the outputs have a gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, state: Tensor, wh: Tensor, w: Tensor, p: Tensor, mask: Tensor | None,
        names: Sequence[str], eps: float,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        steps, batch, width = u.shape[0], u.shape[1], u.shape[2] // 2
        count = len(w)
        z = u.new_empty(steps, count + 1, batch, width)
        statistics = u.new_empty(2, steps, count + 1, width)
        products = [u.new_empty(steps, i, batch, 2 * width) for i in range(1, count + 1)]
        input_products, outputs = u.new_empty(steps, batch, 2 * width), u.new_empty(steps, batch, width)
        weights, last = _by_node(p, count), state
        masked_z = torch.empty_like(z[0])
        for t in range(steps):
            input_products[t], start = input_node(u[t], last, wh, mask)
            _normalise(start, z[t, 0], statistics[:, t, 0], eps)
            for i in range(1, count + 1):
                if mask is None:
                    masked_z[i - 1] = z[t, i - 1]
                else:
                    torch.mul(z[t, i - 1], mask, out=masked_z[i - 1])
                torch.mm(masked_z[:i].view(-1, width), w[i - 1], out=products[i - 1][t].view(-1, 2 * width))
                gate, change, _ = _mix(products[i - 1][t], z[t, :i], weights[i - 1], names)
                total = gate.mul_(change).sum(0)
                edge_weights = weights[i - 1].sum(1)
                total += (edge_weights @ z[t, :i].reshape(i, -1)).view_as(total)
                _normalise(total, z[t, i], statistics[:, t, i], eps)
            last = torch.mean(z[t, 1:], 0, out=outputs[t])
        ctx.save_for_backward(u, state, wh, w, p, mask, outputs)
        ctx.kept = z, (statistics[1] + eps).rsqrt(), products, input_products
        ctx.names, ctx.eps = names, eps
        means, variances = statistics.unbind()
        ctx.mark_non_differentiable(means, variances)
        return outputs, means, variances

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():
            plain = partial(mixed_cell_plain, names=ctx.names, eps=ctx.eps)
            return (*differentiable_gradients(ctx, grads[0], plain), None, None)
        u, state, wh, w, p, mask, outputs = ctx.saved_tensors
        z, inverse_deviations, products, input_products = ctx.kept
        count, width = len(w), state.shape[1]
        weights, dw = _by_node(p, count), torch.zeros_like(w)
        last = torch.cat([state[None], outputs[:-1]])  # (T, B, H) the output before each step
        y = halves(input_products)[1].tanh()
        du, input_by_last = highway_derivatives(input_products, last, y, 1 - y * y)
        dp = [torch.zeros_like(rows) for rows in weights]
        dlast = torch.zeros_like(state)
        for t in reversed(range(len(u))):
            dz = torch.zeros_like(z[t])
            dz[1:] = (dlast + grads[0][t]) / count
            masked_z, dmasked = masked(z[t], mask), torch.zeros_like(z[t])
            for i in range(count, 0, -1):
                if i < count:
                    dz[i] += masked(dmasked[i], mask)
                d = _normalise_backward(dz[i], z[t, i], inverse_deviations[t, i])
                dch, dsources = _mix_backward(d, products[i - 1][t], z[t, :i], weights[i - 1], ctx.names, dp[i - 1])
                dz[:i] += dsources
                flat, rows = dch.view(-1, 2 * width), masked_z[:i].view(-1, width)
                dmasked[:i].view(-1, width).addmm_(flat, w[i - 1].t())
                dw[i - 1].addmm_(rows.t(), flat)
            dz[0] += masked(dmasked[0], mask)
            d = _normalise_backward(dz[0], z[t, 0], inverse_deviations[t, 0])
            dlast = torch.addcmul(masked(chain_rule(d, du[t]) @ wh.t(), mask), d, input_by_last[t])
        dwh = masked(last, mask).flatten(0, 1).t() @ du.flatten(0, 1)
        return du, dlast, dwh, dw, torch.cat(dp), None, None, None


def _by_node(p: Tensor, count: int) -> tuple[Tensor, ...]:
    """Split p (E, O) into the weights (i, O) of the edges into each node i. A `Dag` keeps these edges together."""
    return p.split(list(range(1, count + 1)))


def _mix(ch: Tensor, s: Tensor, weights: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return (gate, sum over candidates of weight · (f(h) − s), the f(h)), each (i, B, H).

    ch (i, B, 2H), s (i, B, H) and weights (i, O) are those of the i edges into a node.
    """
    c, h = halves(ch)
    ys, total = [], None
    columns = weights[:, :, None, None].unbind(1)
    for name, weight in zip(names, columns, strict=True):
        y = ACTIVATIONS[name](h)
        ys.append(y)
        total = y * weight if total is None else total.addcmul_(y, weight)
    assert total is not None
    return c.sigmoid(), total.addcmul_(s, weights.sum(1)[:, None, None], value=-1), ys


def _mix_backward(
    d: Tensor, ch: Tensor, s: Tensor, weights: Tensor, names: Sequence[str], dp: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients by ch (i, B, 2H) and directly by s (i, B, H), from ``d`` (B, H), that by the sum of the node.

    The gradient by the weights is added to ``dp`` (i, O).
    """
    gate, change, ys = _mix(ch, s, weights, names)
    dch = torch.empty_like(ch)
    dc, dh = halves(dch)
    h = halves(ch)[1]
    torch.mul(change.mul_(d), gate * (1 - gate), out=dc)
    gated = gate * d
    slope = None
    columns = weights[:, :, None, None].unbind(1)
    for o, (name, y) in enumerate(zip(names, ys, strict=True)):
        dp[:, o] += (gated * y).sum((1, 2))
        slope_o = SLOPES[name](h, y)
        slope = slope_o * columns[o] if slope is None else slope.addcmul_(slope_o, columns[o])
    assert slope is not None
    torch.mul(gated, slope, out=dh)
    past_gate = torch.sub(d, gated, out=gated)
    dp += (past_gate * s).sum((1, 2))[:, None]
    return dch, past_gate.mul_(weights.sum(1)[:, None, None])


def _normalise(x: Tensor, out: Tensor, statistics: Tensor, eps: float) -> None:
    """Normalise x (B, H) over the batch into ``out``. Write mean and variance into ``statistics`` (2, H)."""
    var, mean = torch.var_mean(x, 0, correction=0)
    statistics[0], statistics[1] = mean, var
    torch.mul(x - mean, (var + eps).rsqrt(), out=out)


def _normalise_backward(d: Tensor, y: Tensor, inverse_deviation: Tensor) -> Tensor:
    """Return the gradient by x, where y (B, H) is x normalised and ``d`` the gradient by y. inverse_deviation is (H,)."""
    return inverse_deviation * (d - d.mean(0) - y * (d * y).mean(0))


def mixed_cell_plain(
    u: Tensor, state: Tensor, wh: Tensor, w: Tensor, p: Tensor, mask: Tensor | None, names: Sequence[str], eps: float
) -> Tensor:
    """Return the outputs of `MixedCellFunction`, computed by operations that torch can differentiate repeatedly."""
    outputs = []
    weights = _by_node(p, len(w))
    for step in u.unbind():
        start = input_node(step, state, wh, mask)[1]
        states = [_normalised(start, eps)]
        for i in range(1, len(w) + 1):
            s = torch.stack(states)
            c, h = halves(masked(s, mask) @ w[i - 1])
            total = 0
            for name, weight in zip(names, weights[i - 1][:, :, None, None].unbind(1), strict=True):
                total = total + weight * (s + c.sigmoid() * (ACTIVATIONS[name](h) - s))
            assert isinstance(total, Tensor)
            states.append(_normalised(total.sum(0), eps))
        state = torch.stack(states[1:]).mean(0)
        outputs.append(state)
    return torch.stack(outputs)


def _normalised(x: Tensor, eps: float) -> Tensor:
    """Return x (B, H) normalised over the batch."""
    var, mean = torch.var_mean(x, 0, correction=0)
    return (x - mean) * (var + eps).rsqrt()
