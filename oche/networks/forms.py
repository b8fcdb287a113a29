"""The form in which a cell computes: plain modules, or a faster form with the same numbers.

Shapes: B images, C channels, H × W pixels; E edges of a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oche.core.architecture import Cell, Dag, Mix


def node_states(
    dag: Dag, edges: Sequence[nn.Module] | nn.ModuleList, inputs: list[Tensor], mix: Mix, stride: int
) -> list[Tensor]:
    """Return the states of all nodes of a cell: its ``inputs``, then the state of each intermediate node.

    The state of a node is the sum of the outputs of its incoming edges, each scaled by its edge weight. ``stride`` is
    that of the edges that leave the inputs; it gives the size of a node without any incoming signal, which is zero.
    """
    states, rows = list(inputs), mix.ops.unbind()
    scales = None if mix.edges is None else mix.edges.unbind()
    for incoming in dag.incoming:
        total = None
        for e in incoming:
            out = edges[e](states[dag.edges[e][0]], rows[e], mix.active[e]) if mix.active[e] else None
            if out is not None:
                out = out if scales is None else scales[e] * out
                total = out if total is None else total + out
        states.append(torch.zeros_like(inputs[0][:, :, ::stride, ::stride]) if total is None else total)
    return states


@dataclass(frozen=True)
class Form:
    """A way to compute the cells of a supernet: the states of their nodes, and the modules in front of them.

    All forms compute the same numbers from the same parameters. `oche.kernels.choose` has the faster ones.
    """

    name: str
    flow: Callable[..., list[Tensor]]
    """a function like `node_states`"""
    apply: Callable[[nn.Module, Tensor], Tensor] = lambda module, x: module(x)
    """computes module(x) in a supernet"""
    apply_final: Callable[[nn.Module, Tensor], Tensor] = lambda module, x: module(x)
    """computes module(x) in a final network"""
    discrete: Callable[[Any, list[Tensor], Any], Tensor | None] = lambda cell, inputs, factors: None
    """returns the output of a `DiscreteCell` for its inputs and the factors of drop path; None if it must compute itself"""


PLAIN = Form("plain", node_states)


class FormModule(nn.Module):
    """A module that computes in a `Form`, which `oche.kernels.choose.use` can replace."""

    form: Form = PLAIN


class DiscreteCell(FormModule):
    """A cell of a final network. A form may compute it as a whole."""

    cell: Cell
    ops: nn.ModuleList
    """the operation of each edge of ``cell``"""

    @property
    def preprocessing(self) -> tuple[nn.Module, ...]:
        """The modules in front of the inputs, one each, or none."""
        return ()
