"""The interface of a search space to the search, to decisions and to reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from oche.core.architecture import Shape, all_alive
from oche.core.errors import OcheError
from oche.networks.operations import find_operation

if TYPE_CHECKING:
    from typing import Self

    from oche.core.architecture import Dag, Genotype


M = TypeVar("M")  # the settings of a search, from oche.methods, which imports this folder


class CellPosition(Protocol):
    """The place of a searched cell in the supernet: its cell type, its width, the stride of the edges that leave its inputs."""

    @property
    def kind(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def stride(self) -> int: ...


@dataclass(frozen=True)
class Space:
    """A set of architectures. Subclasses are frozen dataclasses whose fields size the supernet."""

    method: ClassVar[str] = "beta-darts"  #: name of the default search method; docs/methods.md gives the reason
    recipe: ClassVar[str] = "darts"  #: name of the training recipe with which its networks are published
    small: ClassVar[str] = "small"  #: name of a training recipe for two CPU cores
    domain: ClassVar[str] = "images"  #: the input of its networks: "images" or "text"

    if TYPE_CHECKING:  # fields of every space; subclasses declare them, in their own order and with their own defaults
        candidates: tuple[str, ...]
        # fields of every space for images
        classes: int
        in_channels: int
        image: tuple[int, int]
        affine: bool

    @property
    def groups(self) -> dict[str, Dag]:
        """The graph of each cell to be found, by name.

        Logits and masks (E, O) have a row for each edge, a column for each candidate.
        """
        raise NotImplementedError

    # The next methods are implemented for images.

    def fit(self, data: Any) -> Self:
        """Return this space with the sizes of ``data``. Raises `OcheError` for data of another kind."""
        self.check_domain(data)
        return replace(self, classes=len(data.classes), in_channels=data.channels, image=data.image)

    def check_domain(self, data: Any) -> None:
        """Raise `OcheError` unless the networks of this space take ``data``."""
        found = "text" if hasattr(data, "vocabulary") else "images"
        if found != self.domain:
            use = {"text": "--data ptb or a text file", "images": "--data cifar10, say"}[self.domain]
            other = {"text": "--space recurrent", "images": "--space darts"}[found]
            raise OcheError(
                f"this space has networks for {self.domain}, and {data.name} is {found}; use {use}, or {other}"
            )

    def adapt_search(self, method: M) -> M:
        """Return the search settings ``method``, with the values of published searches in this space that differ from images."""
        return method

    def data_facts(self, data: Any) -> dict[str, Any]:
        """Return facts about the inputs and outputs of the networks, for reports."""
        return {"image": self.image, "in_channels": self.in_channels, "classes": data.classes}

    def example_input(self, engine: Any) -> tuple[Any, ...]:
        """Return the arguments of the supernet for one image (or word), of zeros."""
        return (engine.images(torch.zeros(1, self.in_channels, *self.image)),)

    def check_edge(self, edge: Any) -> None:
        """Raise `OcheError` if ``edge`` cannot build the edges of the supernet. Builds nothing."""
        edge.check(self)

    @property
    def plans(self) -> Sequence[CellPosition]:
        """The places of the searched cells in the supernet, in order."""
        raise NotImplementedError

    @property
    def edge_shapes(self) -> Sequence[tuple[str, Shape]]:
        """The shapes of the edges of the supernet, each with the name of their place, for checks of edge builders."""
        return [(f"cell {i} ({p.kind})", Shape.same(p.channels, p.stride)) for i, p in enumerate(self.plans)]

    def alive(self, group: str) -> Tensor:
        """Return the mask (E, O) of the candidates that each edge of ``group`` has. By default all edges have all."""
        return all_alive(self.groups[group], len(self.candidates))

    def candidate(self, name: str, shape: Shape) -> nn.Module:
        """Build operation ``name`` as the supernet uses it."""
        raise NotImplementedError

    def searched_operations(self, genotype: Genotype) -> set[str]:
        """Return the operations of ``genotype`` at places where this space has a choice."""
        return {op for cell in genotype.cells.values() for op, *_ in cell.edges}

    def final_operation(self, name: str, shape: Shape) -> nn.Module:
        """Build operation ``name`` as a final network uses it."""
        return find_operation(name).build(shape.c_in, shape.stride, True)

    def supernet(self, edge: Any = ...) -> nn.Module:
        """Build a new supernet, called as ``net(x, {group: Mix})``. ``edge`` builds the module of each edge."""
        raise NotImplementedError

    def read(self, kept: Mapping[str, Tensor]) -> Genotype:
        """Return the genotype of narrowed masks (E, O), by cell name."""
        raise NotImplementedError

    def random(self, generator: torch.Generator) -> Genotype:
        """Draw an architecture uniformly."""
        raise NotImplementedError

    def describe(self) -> list[dict]:
        """Return one row for each part of the supernet, for reports: {"name", "channels", "size"}."""
        raise NotImplementedError
