"""DARTS' space of recurrent cells (1806.09055 §3.2, appendix A.1.2) and the network of a cell found in it.

A node's state is gated between its predecessor s and what an activation f makes of it (highway, 1607.03474), with W the
matrix of the node, one for all edges that enter it and all their candidates::

    [c, h] = (s · mask) W      s' = s + sigmoid(c) · (f(h) − s)

Shapes: T steps, B streams, H width, V words, N nodes, E edges of a cell, O candidates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..arch import Cell, Genotype
from ..errors import OcheError, nearest
from .language import SPREAD, Dropouts, LanguageModel, Masks, Output

GROUP = "recurrent"
CANDIDATES = ("none", "tanh", "relu", "sigmoid", "identity")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda h: h,
}


class Highway(nn.Module):
    """Weights of a cell of ``nodes`` nodes, and the state that its input node makes of x and of the last output."""

    def __init__(self, width: int, nodes: int) -> None:
        super().__init__()
        self.width = width
        self.first = nn.Parameter(torch.empty(2 * width, 2 * width))  # (2H, 2H) of x and the state together
        self.nodes = nn.Parameter(torch.empty(nodes, width, 2 * width))  # (N, H, 2H)
        for weight in (self.first, self.nodes):
            nn.init.uniform_(weight, -SPREAD, SPREAD)

    def begin(self, x: Tensor, state: Tensor, x_mask: Tensor | None, mask: Tensor | None) -> Tensor:
        """(B, H) the state of node 0, from x (B, H) and the last output (B, H)."""
        c, h = (torch.cat([masked(x, x_mask), masked(state, mask)], 1) @ self.first).split(self.width, 1)
        return state + c.sigmoid() * (h.tanh() - state)

    def forward(self, x: Tensor, state: Tensor, x_mask: Tensor | None, mask: Tensor | None, *context) -> Tensor:
        """(T, B, H) the outputs for x (T, B, H)."""
        outputs = []
        for step in x.unbind():
            state = self.step(self.begin(step, state, x_mask, mask), mask, *context)
            outputs.append(state)
        return torch.stack(outputs)

    def step(self, start: Tensor, mask: Tensor | None, *context) -> Tensor:
        """(B, H) the cell's output, from the state of node 0."""
        raise NotImplementedError


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """x · mask, or x without one."""
    return x if mask is None else x * mask


# --- the final network ------------------------------------------------------------------------------------------------


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


def _check(cell: Cell) -> None:
    """Raises `OcheError` for a cell that is not of this kind."""
    for name, _, target in cell.edges:
        if name not in ACTIVATIONS:
            raise OcheError(
                f"a recurrent cell has no operation {name!r}{nearest(name, list(ACTIVATIONS))}; "
                f"its activations are {', '.join(ACTIVATIONS)}"
            )
        if sum(t == target for _, _, t in cell.edges) > 1:
            raise OcheError(f"node {target} of a recurrent cell has several incoming edges; give it one")
    if cell.nodes != tuple(range(1, len(cell.edges) + 1)):
        raise OcheError(
            f"the nodes of a recurrent cell are {list(cell.nodes)}; they have one input node, 0, and are numbered from 1"
        )


class RecurrentNetwork(LanguageModel):
    """The language model of a genotype, tokens (T, B) → `Output`. Raises `OcheError` for a genotype of another kind.

    With DARTS' sizes (V = 10,000, H = 850) a cell of 8 nodes has 22,960,000 weights.
    """

    def __init__(
        self, genotype: Genotype | str, vocabulary: int, width: int = 850, dropouts: Dropouts = Dropouts(words=0.1)
    ) -> None:
        from ..genotypes import resolve

        genotype = resolve(genotype)
        if [*genotype.cells] != [GROUP]:
            raise OcheError(
                f"a language model takes one {GROUP!r} cell, and the genotype has {', '.join(genotype.cells)}; "
                "give DARTS_RNN_V2, say, or the run of a search with --space recurrent"
            )
        super().__init__(FinalCell(genotype.cells[GROUP], width), vocabulary, width, dropouts)
        self.genotype = genotype

    def forward(self, tokens: Tensor, hidden: Tensor | None = None, masks: Masks | None = None) -> Output:
        """``hidden`` (1, B, H), None: zeros. In training mode dropouts are drawn anew, or are those of ``masks``; in
        evaluation there are none."""
        if not self.training:
            masks = Masks()
        return self.run(tokens, hidden, self.masks(tokens.shape[1]) if masks is None else masks)
