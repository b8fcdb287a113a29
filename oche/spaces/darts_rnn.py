"""The DARTS space of recurrent cells (1806.09055 §3.2, appendix A.1.2), its supernet, and the network of a discrete cell.

Shapes: T steps, B streams, H width, V words, E edges of a cell, O candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from oche.core.architecture import NONE, Cell, Dag, Genotype, Mix, cell_from_mask
from oche.core.arguments import checked
from oche.core.errors import OcheError, did_you_mean
from oche.core.genotypes import resolve
from oche.core.optimizers import Adam, Sgd
from oche.core.registry import component
from oche.networks.language_model import DropoutMasks, Dropouts, LanguageModel, LanguageOutput, check_sizes, describe
from oche.networks.rnn_autograd import ACTIVATIONS
from oche.networks.rnn_cells import FinalCell, SearchCell
from oche.spaces.base import Space
from oche.spaces.edge_variants import AuxiliarySkip, PartialEdge, PathDropout, SkipDropout
from oche.spaces.mixed_ops import EdgeBuilder, MixedEdge

GROUP = "recurrent"  # the name of the cell in genotypes
CANDIDATES = ("none", "tanh", "relu", "sigmoid", "identity")

# --- the final network ------------------------------------------------------------------------------------------------


@checked
class RecurrentNetwork(LanguageModel):
    """The language model of a genotype. Maps tokens (T, B) to a `LanguageOutput`.

    With DARTS' sizes (V = 10,000, H = 850) a cell of 8 nodes has 22,960,000 weights. Raises `OcheError` for a genotype of
    another kind.
    """

    def __init__(
        self, genotype: Genotype | str, vocabulary: int, width: int = 850, dropouts: Dropouts = Dropouts(words=0.1)
    ) -> None:
        genotype = resolve(genotype)
        if [*genotype.cells] != [GROUP]:
            raise OcheError(
                f"a language model takes one {GROUP!r} cell, and the genotype has {', '.join(genotype.cells)}; "
                "give DARTS_RNN_V2, say, or the run of a search with --space recurrent"
            )
        super().__init__(FinalCell(genotype.cells[GROUP], width), vocabulary, width, dropouts)
        self.genotype = genotype

    def forward(
        self, tokens: Tensor, hidden: Tensor | None = None, masks: DropoutMasks | None = None
    ) -> LanguageOutput:
        """Compute the output for tokens (T, B) from the state ``hidden`` (1, B, H); None means zeros.

        In training mode dropouts are drawn anew, or are those of ``masks``. In evaluation mode nothing is dropped.
        """
        if not self.training:
            masks = DropoutMasks()
        return self.run(tokens, hidden, self.masks(tokens.shape[1]) if masks is None else masks)


# --- the supernet -----------------------------------------------------------------------------------------------------


class Supernet(LanguageModel):
    """The language model that holds every cell of the space.

    ``net(tokens, {"recurrent": mix}, hidden, masks)`` returns a `LanguageOutput`.
    """

    def __init__(self, space: RecurrentSpace) -> None:
        super().__init__(
            SearchCell(space.dag, space.candidates, space.width), space.vocabulary, space.width, space.dropouts
        )

    def forward(
        self,
        tokens: Tensor,
        mixes: Mapping[str, Mix],
        hidden: Tensor | None = None,
        masks: DropoutMasks = DropoutMasks(),
    ) -> LanguageOutput:
        """Compute the output for tokens (T, B) from the state ``hidden`` (1, B, H); None means zeros.

        Only ``masks`` drop anything.
        """
        return self.run(tokens, hidden, masks, mixes[GROUP])


_WHY_REFUSED: dict[type[EdgeBuilder], str] = {
    PartialEdge: "one matrix serves all candidates of a node, so leaving out channels saves none of its work, and the "
    "gate needs them all (edge weights are the relaxation's: relax=EdgeNormalised() works here, as does --method pc-darts "
    "--search.edge MixedEdge)",
    AuxiliarySkip: "the gate of every edge is a skip connection already",
    SkipDropout: "its candidates have no skip connection to drop",
    PathDropout: "all candidates of a node share their weights, so none can be dropped alone (random-ws trains single "
    "architectures)",
}


@component
@dataclass(frozen=True)
class RecurrentSpace(Space):
    """DARTS' recurrent cells for language models: 8 nodes, each with one predecessor and one of 4 activations.

    Raises `OcheError` for unknown or repeated candidates and for impossible sizes.
    """

    recipe: ClassVar[str] = "recurrent"
    small: ClassVar[str] = "recurrent-small"
    method: ClassVar[str] = "darts"  # no other method is published for language models or measured on them
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
    """steps of backpropagation through time: words of a window"""
    temporal: float = 1e-3
    """strength of temporal activation regularisation: mean square of the change of the cell's output between steps"""
    activation: float = 0.0
    """strength of activation regularisation: mean square of the cell's dropped output"""

    def __post_init__(self) -> None:
        for name in self.candidates:
            if name not in (NONE, *ACTIVATIONS):
                raise OcheError(
                    f"candidates: a recurrent cell has no operation {name!r}{did_you_mean(name, [*ACTIVATIONS])}; "
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
        _ = self.dag  # it checks its sizes

    @cached_property
    def dag(self) -> Dag:
        """The graph of the cell."""
        return Dag(self.nodes, inputs=1, keep=1)

    @property
    def groups(self) -> dict[str, Dag]:
        """The graph of the one cell to be found."""
        return {GROUP: self.dag}

    def fit(self, data: Any) -> RecurrentSpace:
        self.check_domain(data)
        return replace(self, vocabulary=len(data.vocabulary))

    def adapt_search(self, method: Any) -> Any:
        """Return ``method`` with the optimisers and batch of DARTS' search on Penn Treebank (appendix A.1.2, released code)."""
        a = method.method.arch_optimizer
        if isinstance(a, Adam):
            a = replace(a, lr=3e-3, betas=(0.9, 0.999))
        w = Sgd(lr=20.0, lr_min=20.0, momentum=0.0, decay=5e-7, clip=0.25, clip_ahead=True)
        return replace(method, weight_optimizer=w, arch_optimizer=a, batch=256)

    def check_edge(self, edge: EdgeBuilder) -> None:
        if not isinstance(edge, MixedEdge):
            reason = _WHY_REFUSED.get(type(edge), "its edges are a language model's, which builds them itself")
            raise OcheError(
                f"{type(edge).__name__} cannot stand in a recurrent cell: {reason}; use edge=MixedEdge(), or another method"
            )

    def supernet(self, edge: EdgeBuilder = MixedEdge()) -> Supernet:
        """Build a new supernet. Raises `OcheError` for edges other than the plain ones."""
        self.check_edge(edge)
        return Supernet(self)

    def read(self, kept: Mapping[str, Tensor]) -> Genotype:
        """Return the genotype of a narrowed mask (E, O)."""
        return Genotype({GROUP: cell_from_mask(kept[GROUP], self.dag, self.candidates)})

    def random(self, generator: torch.Generator) -> Genotype:
        """Draw a cell uniformly: for each node any source before it and any activation."""
        names = [c for c in self.candidates if c != NONE]
        edges = []
        for target in range(1, self.nodes + 1):
            source = int(torch.randint(target, (), generator=generator))
            edges.append((names[int(torch.randint(len(names), (), generator=generator))], source, target))
        return Genotype({GROUP: Cell(tuple(edges), tuple(range(1, self.nodes + 1)))})

    def describe(self) -> list[dict]:
        """One row a part of the supernet, for reports: {"name", "channels"}."""
        return describe(self.width, self.vocabulary)

    def data_facts(self, data: Any) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary}

    def example_input(self, engine: Any) -> tuple[Any, ...]:
        return (torch.zeros(1, 1, dtype=torch.int64, device=engine.device),)


@checked
def recurrent(**fields) -> RecurrentSpace:
    """DARTS' recurrent cells (1806.09055 §3.2), for language models: 8 nodes, 4 activations, one edge kept per node.

    ``fields`` override the values of `RecurrentSpace`: ``recurrent(width=300, vocabulary=10_000)``.
    """
    return RecurrentSpace(**fields)
