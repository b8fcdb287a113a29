"""DARTS' space of recurrent cells (1806.09055 §3.2, appendix A.1.2) and the network of a cell found in it.

A node's state is gated between its predecessor s and what an activation f makes of it (highway, 1607.03474), with W the
matrix of the node, one for all edges that enter it and all their candidates::

    [c, h] = (s · mask) W      s' = s + sigmoid(c) · (f(h) − s)

Shapes: T steps, B streams, H width, V words, N nodes, E edges of a cell, O candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ..arch import NONE, Cell, Dag, Genotype, Mix, read_cell
from ..errors import OcheError, nearest
from ..registry import component
from .edges import AuxiliarySkip, EdgeBuilder, MixedEdge, PartialEdge, PathDropout, SkipDropout
from .language import SPREAD, Dropouts, LanguageModel, Masks, Output, check_sizes, describe
from .space import Space

if TYPE_CHECKING:
    from ..method import Method

GROUP = "recurrent"
CANDIDATES = ("none", "tanh", "relu", "sigmoid", "identity")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda h: h,
}


class Highway(nn.Module):
    """Weights of a cell of ``nodes`` nodes, and the state that its input node makes of x and of the last output.

    ``fused``: whether it computes as in `oche.fused.recurrent`, the same numbers up to rounding in less time.
    """

    fused: bool = False

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

    def unrolled(self, u: Tensor, state: Tensor, weight: Tensor, mask: Tensor | None, *context) -> Tensor:
        from ..fused.recurrent import Found

        edges = [edge[:2] for edge in self.cell.edges]
        return Found.apply(u, state, weight, self.nodes, mask, edges, self.cell.concat)  # pyright: ignore


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


# --- the supernet -----------------------------------------------------------------------------------------------------


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
        from ..fused.recurrent import Mixed

        (mix,) = context
        alive = [[o in on for o in range(len(self.candidates))] for on in mix.active]
        used = [o for o, name in enumerate(self.candidates) if name != NONE and any(row[o] for row in alive)]
        columns = _places(used, u.device)
        weights = mix.strength()[:, columns]
        if not all(row[o] for row in alive for o in used):  # what is not evaluated has no gradient, either
            weights = weights * _constant(tuple(map(tuple, alive)), u.device)[:, columns]
        names = [self.candidates[o] for o in used]
        found = Mixed.apply(u, state, weight, self.nodes, weights, mask, names, self.norm.eps)
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


@lru_cache(maxsize=256)
def _constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """``values`` on the device, brought there once: what a graph replays moves nothing from the host."""
    with torch.inference_mode(False):  # so that gradients may keep it
        return torch.tensor(values, device=device)


class Supernet(LanguageModel):
    """Every cell of the space in one language model: ``net(tokens, {"recurrent": mix}, hidden, masks)`` → `Output`."""

    def __init__(self, space: RecurrentSpace) -> None:
        super().__init__(
            SearchCell(space.dag, space.candidates, space.width), space.vocabulary, space.width, space.dropouts
        )

    def forward(
        self, tokens: Tensor, mixes: Mapping[str, Mix], hidden: Tensor | None = None, masks: Masks = Masks()
    ) -> Output:
        """tokens (T, B), hidden (1, B, H), None: zeros. Nothing is dropped but what ``masks`` say."""
        return self.run(tokens, hidden, masks, mixes[GROUP])


_REFUSED: dict[type[EdgeBuilder], str] = {
    PartialEdge: "one matrix serves all candidates of a node, so that leaving out channels saves none of its work, and the "
    "gate needs them all (edge weights are the relaxation's: relax=EdgeNormalised() works here, as does --method pc-darts "
    "--search.edge MixedEdge)",
    AuxiliarySkip: "the gate of every edge is a skip connection already",
    SkipDropout: "its candidates have no skip connection to drop",
    PathDropout: "all candidates of a node share their weights, so that none can be dropped alone (random-ws trains single "
    "architectures)",
}


@component
@dataclass(frozen=True)
class RecurrentSpace(Space):
    """DARTS' recurrent cells for language models: 8 nodes, each with one predecessor and one of 4 activations."""

    recipe: ClassVar[str] = "recurrent"
    small: ClassVar[str] = "recurrent-small"
    method: ClassVar[str] = "darts"  # of the others none is published for language models, or measured there
    domain: ClassVar[str] = "text"

    nodes: int = 8
    """nodes of the cell beside its input"""
    candidates: tuple[str, ...] = CANDIDATES
    """activations to choose from; logits have one column for each, in this order"""
    width: int = 300
    """size of embedded words and of states"""
    vocabulary: int = 10_000
    """filled in from the data by the command line"""
    dropouts: Dropouts = Dropouts()
    """probabilities of dropping"""
    bptt: int = 35
    """steps that gradients go back: words of a window"""
    temporal: float = 1e-3
    """strength of temporal activation regularisation: mean square of what the cell's output changes from step to step"""
    activation: float = 0.0
    """strength of activation regularisation: mean square of the cell's dropped output"""

    def __post_init__(self) -> None:
        for name in self.candidates:
            if name not in (NONE, *ACTIVATIONS):
                raise OcheError(
                    f"candidates: a recurrent cell has no operation {name!r}{nearest(name, [*ACTIVATIONS])}; "
                    f"use some of {', '.join(CANDIDATES)}"
                )
        if len(set(self.candidates)) != len(self.candidates) or not set(self.candidates) - {NONE}:
            raise OcheError(f"candidates={self.candidates}: list at least one activation, each once")
        check_sizes(self.vocabulary, self.width)
        if self.bptt < 1 or not 0 <= self.temporal < torch.inf or not 0 <= self.activation < torch.inf:
            raise OcheError(
                f"bptt={self.bptt}, temporal={self.temporal}, activation={self.activation} cannot train; "
                "use bptt >= 1, temporal >= 0, activation >= 0"
            )
        _ = self.dag  # its own checks

    @cached_property
    def dag(self) -> Dag:
        return Dag(self.nodes, inputs=1, keep=1)

    @property
    def groups(self) -> dict[str, Dag]:
        """The one cell to be found."""
        return {GROUP: self.dag}

    def fit(self, data: Any) -> RecurrentSpace:
        self.check_domain(data)
        return replace(self, vocabulary=len(data.vocabulary))

    def suited(self, method: Method) -> Method:
        """With the optimisers and the batch of DARTS' search on Penn Treebank (appendix A.1.2 and released code)."""
        from ..optim import Adam, Sgd

        a = method.a
        if isinstance(a, Adam):
            a = replace(a, lr=3e-3, betas=(0.9, 0.999))
        w = Sgd(lr=20.0, lr_min=20.0, momentum=0.0, decay=5e-7, clip=0.25, clip_ahead=True)
        return replace(method, w=w, a=a, batch=256)

    def check_edge(self, edge: EdgeBuilder) -> None:
        if not isinstance(edge, MixedEdge):
            reason = _REFUSED.get(type(edge), "its edges are a language model's, which builds them itself")
            raise OcheError(
                f"{type(edge).__name__} cannot stand in a recurrent cell: {reason}; use edge=MixedEdge(), or another method"
            )

    def supernet(self, edge: EdgeBuilder = MixedEdge()) -> Supernet:
        """A fresh supernet. Raises `OcheError` for edges other than the plain ones."""
        self.check_edge(edge)
        return Supernet(self)

    def read(self, kept: Mapping[str, Tensor]) -> Genotype:
        """The genotype that a narrowed mask (E, O) stands for."""
        return Genotype({GROUP: read_cell(kept[GROUP], self.dag, self.candidates)})

    def random(self, generator: torch.Generator) -> Genotype:
        """A cell drawn uniformly: for each node any source before it and any activation."""
        names = [c for c in self.candidates if c != NONE]
        edges = []
        for target in range(1, self.nodes + 1):
            source = int(torch.randint(target, (), generator=generator))
            edges.append((names[int(torch.randint(len(names), (), generator=generator))], source, target))
        return Genotype({GROUP: Cell(tuple(edges), tuple(range(1, self.nodes + 1)))})

    def describe(self) -> list[dict]:
        """One row a part of the supernet, for reports: {"name", "channels"}."""
        return describe(self.width, self.vocabulary)

    def about(self, data: Any) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary}

    def example(self, engine: Any) -> tuple[Any, ...]:
        return (torch.zeros(1, 1, dtype=torch.int64, device=engine.device),)


def recurrent(**fields) -> RecurrentSpace:
    """DARTS' recurrent cells (1806.09055 §3.2), for language models: 8 nodes, 4 activations, one edge kept per node; fields of
    `RecurrentSpace` override its values: ``recurrent(width=300, vocabulary=10_000)``."""
    return RecurrentSpace(**fields)
