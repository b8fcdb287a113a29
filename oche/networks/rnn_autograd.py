"""Recurrent cells unrolled over a window as one autograd function, with the gradient written out by hand.

This saves work against the plain modules of `oche.networks.rnn_cells`:

- the product of the input with its weights is computed once for all steps, before this function;
- a state is masked once, not once for each edge;
- candidates are weighted as they are computed, and only the products before the activations are kept for the backward pass;
- the products themselves add up the gradients of all edges into a node;
- the weight gradients of a discrete cell are one product over all steps.

Under `torch.autograd.grad(..., create_graph=True)` the backward pass uses plain operations on the same inputs, so second
derivatives exist.

A node computes, from the state s of its predecessor and the matrix w of the node (1806.09055 appendix A.1.2)::

    ch = [c, h] = (s · mask) w      s' = s + sigmoid(c) · (f(h) − s)

Shapes: T steps, B streams, H width, N nodes, E edges, O candidates; i edges enter node i.

Names: u (T, B, 2H) input times its weights, wh (H, 2H) weights of the last output, w (N, H, 2H) weights of the nodes, z states
of the nodes, ch products before the activations, d… gradient of the loss by ….
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
SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # derivative of y = f(h), from h and y
    "tanh": lambda h, y: 1 - y * y,
    "relu": lambda h, y: (h > 0).to(h.dtype),
    "sigmoid": lambda h, y: y * (1 - y),
    "identity": lambda h, y: torch.ones_like(h),
}


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return x · mask, or x without a mask."""
    return x if mask is None else x * mask


# --- one node ---------------------------------------------------------------------------------------------------------


def halves(ch: Tensor) -> tuple[Tensor, Tensor]:
    """Return views (c, h), each (..., H), of ch (..., 2H)."""
    half = ch.shape[-1] // 2
    return ch[..., :half], ch[..., half:]


def input_node(u: Tensor, state: Tensor, wh: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return (ch (B, 2H), state (B, H)) of the input node, from u (B, 2H) and the last output ``state`` (B, H)."""
    ch = torch.addmm(u, masked(state, mask), wh)
    c, h = halves(ch)
    return ch, torch.lerp(state, h.tanh(), c.sigmoid())


def highway_derivatives(ch: Tensor, s: Tensor, y: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivatives of s + sigmoid(c) · (y − s) by ch (..., 2H) and by s (..., H), for y = f(h).

    ``slope`` is the derivative of f at h.
    """
    gate, by_ch = halves(ch)[0].sigmoid(), torch.empty_like(ch)
    by_s = 1 - gate
    by_c, by_h = halves(by_ch)
    torch.mul(gate, slope, out=by_h)
    torch.mul(gate.mul_(by_s), y - s, out=by_c)
    return by_ch, by_s


def chain_rule(d: Tensor, by_ch: Tensor) -> Tensor:
    """Return the gradient by ch: both halves of ``by_ch`` (B, 2H) times ``d`` (B, H), in place."""
    by_ch.view(len(d), 2, -1).mul_(d.unsqueeze(1))
    return by_ch


def differentiable_gradients(ctx: Any, grad: Tensor, cell: Callable[..., Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradients of the saved inputs through ``cell``, the same function in plain operations.

    These gradients can be differentiated again.
    """
    inputs = ctx.saved_tensors[:-1]  # the last one is an output
    needed = [i for i, needs in enumerate(ctx.needs_input_grad[: len(inputs)]) if needs]
    leaves = list(inputs)
    for i in needed:
        leaves[i] = inputs[i].view_as(inputs[i])  # a graph that starts here holds this function alone
    found = torch.autograd.grad(
        cell(*leaves), [leaves[i] for i in needed], grad, create_graph=True, allow_unused=True, materialize_grads=True
    )
    result: list[Tensor | None] = [None] * len(inputs)
    for i, g in zip(needed, found, strict=True):
        result[i] = g
    return tuple(result)


# --- a discrete cell --------------------------------------------------------------------------------------------------


class DiscreteCellFunction(torch.autograd.Function):
    """The outputs (T, B, H) of a cell whose nodes have one incoming edge (activation, source) each.

    ``concat`` lists the nodes whose mean is the output.
    """

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, state: Tensor, wh: Tensor, w: Tensor, mask: Tensor | None,
        edges: Sequence[tuple[str, int]], concat: Sequence[int],
    ) -> Tensor:  # fmt: skip
        steps, batch, width = u.shape[0], u.shape[1], u.shape[2] // 2
        z = u.new_empty(len(w) + 1, steps, batch, width)
        masked_z = z if mask is None else torch.empty_like(z)
        products, input_products = u.new_empty(len(w), steps, batch, 2 * width), torch.empty_like(u)
        outputs, last = u.new_empty(steps, batch, width), state
        for t in range(steps):
            input_products[t], z[0, t] = input_node(u[t], last, wh, mask)
            for i, (name, source) in enumerate(edges):
                if mask is not None and all(s != source for _, s in edges[:i]):  # the first edge from this source
                    torch.mul(z[source, t], mask, out=masked_z[source, t])
                c, h = halves(torch.mm(masked_z[source, t], w[i], out=products[i, t]))
                torch.lerp(z[source, t], ACTIVATIONS[name](h), c.sigmoid(), out=z[i + 1, t])
            last = torch.mean(z[_index(concat), t], 0, out=outputs[t])
        ctx.save_for_backward(u, state, wh, w, mask, outputs)
        ctx.kept = z, masked_z, products, input_products
        ctx.edges, ctx.concat = edges, concat
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():
            plain = partial(discrete_cell_plain, edges=ctx.edges, concat=ctx.concat)
            return (*differentiable_gradients(ctx, grads[0], plain), None, None)
        u, state, wh, w, mask, outputs = ctx.saved_tensors
        z, masked_z, products, input_products = ctx.kept
        last = torch.cat([state[None], outputs[:-1]])  # (T, B, H) the output before each step
        y = halves(input_products)[1].tanh()
        du, input_by_last = highway_derivatives(input_products, last, y, 1 - y * y)
        nodes = [_node_derivatives(ch, z[s], name) for ch, (name, s) in zip(products, ctx.edges, strict=True)]
        concat, w_t = _index(ctx.concat), w.transpose(1, 2).contiguous()
        dlast = torch.zeros_like(state)
        for t in reversed(range(len(u))):
            dz = z.new_zeros(len(z), *state.shape)
            dz[concat] = (dlast + grads[0][t]) / len(ctx.concat)
            for i in reversed(range(len(w))):
                d, dsource = dz[i + 1], dz[ctx.edges[i][1]]
                dch, by_source = nodes[i]
                dsource += masked(chain_rule(d, dch[t]) @ w_t[i], mask)
                dsource.addcmul_(d, by_source[t])
            dlast = torch.addcmul(masked(chain_rule(dz[0], du[t]) @ wh.t(), mask), dz[0], input_by_last[t])
        dwh = masked(last, mask).flatten(0, 1).t() @ du.flatten(0, 1)
        sources = [source for _, source in ctx.edges]
        dw = torch.stack(
            [masked_z[s].flatten(0, 1).t() @ dch.flatten(0, 1) for s, (dch, _) in zip(sources, nodes, strict=True)]
        )
        return du, dlast, dwh, dw, None, None, None


def _node_derivatives(ch: Tensor, s: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Return the derivatives of a node with activation ``name``, by ch and by the state s of its source."""
    h = halves(ch)[1]
    y = ACTIVATIONS[name](h)
    return highway_derivatives(ch, s, y, SLOPES[name](h, y))


def _index(nodes: Sequence[int]) -> slice | list[int]:
    """Return ``nodes`` as an index. Consecutive numbers become a slice, which copies nothing."""
    first, last = nodes[0], nodes[-1]
    return slice(first, last + 1) if [*nodes] == [*range(first, last + 1)] else [*nodes]


def discrete_cell_plain(
    u: Tensor, state: Tensor, wh: Tensor, w: Tensor, mask: Tensor | None,
    edges: Sequence[tuple[str, int]], concat: Sequence[int],
) -> Tensor:  # fmt: skip
    """Return the outputs of `DiscreteCellFunction`, computed by operations that torch can differentiate repeatedly."""
    outputs = []
    for step in u.unbind():
        states = [input_node(step, state, wh, mask)[1]]
        for weight, (name, source) in zip(w, edges, strict=True):
            s = states[source]
            c, h = halves(masked(s, mask) @ weight)
            states.append(torch.lerp(s, ACTIVATIONS[name](h), c.sigmoid()))
        state = torch.stack([states[i] for i in concat]).mean(0)
        outputs.append(state)
    return torch.stack(outputs)
