"""How cells compute: the plain form, and what other forms stand in for.

Shapes: B images, C channels, H × W pixels; E edges of a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oche.core.architecture import Dag, Mix


def node_states(
    dag: Dag, edges: Sequence[nn.Module] | nn.ModuleList, inputs: list[Tensor], mix: Mix, stride: int
) -> list[Tensor]:
    """The states of all nodes of a cell: its ``inputs``, then for each node the sum of what its edges carry, each scaled
    by its edge weight. ``stride`` is that of edges from the inputs, needed where nothing flows into a node."""
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
    """How the cells of a supernet compute: the states of their nodes, and modules in front of those. Every form gives the
    same numbers from the same parameters; the others are in `oche.kernels.choose`."""

    name: str
    flow: Callable[..., list[Tensor]]
    """as `node_states`"""
    apply: Callable[[nn.Module, Tensor], Tensor] = lambda module, x: module(x)
    """module, x → module(x)"""


PLAIN = Form("plain", node_states)


class FormModule(nn.Module):
    """A module that computes in some `Form`; see `oche.kernels.choose.set_form`."""

    form: Form = PLAIN
