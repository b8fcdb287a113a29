"""What every search space offers to the loop, to decisions and to reports, and where a supernet's cells stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from oche.core.errors import OcheError

if TYPE_CHECKING:
    from typing import Self

    from oche.core.architecture import Dag, Genotype


M = TypeVar("M")  # a `oche.methods.method.Method`, which is made of spaces' edges and so stands above them


class CellPosition(Protocol):
    """Where one searched cell stands: its group, its width and the stride of the edges that leave its inputs."""

    @property
    def kind(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def stride(self) -> int: ...


@dataclass(frozen=True)
class Space:
    """A set of architectures. Subclasses are frozen dataclasses whose fields size the supernet."""

    #: name of the method that searches where none is named; docs/methods.md says why
    method: ClassVar[str] = "beta-darts"
    recipe: ClassVar[str] = "darts"  #: name of the training that its networks are published with
    small: ClassVar[str] = "small"  #: name of a training of them that two CPU cores can do
    domain: ClassVar[str] = "images"  #: what its networks take: images or text

    if TYPE_CHECKING:  # fields of every space, declared there so that each keeps its own order and defaults
        candidates: tuple[str, ...]
        # of every space of images
        classes: int
        in_channels: int
        image: tuple[int, int]
        affine: bool

    @property
    def groups(self) -> dict[str, Dag]:
        """The cells to be found, by name; logits and masks (E, O) have one row an edge, one column a candidate."""
        raise NotImplementedError

    # What follows is as spaces of images have it.

    def fit(self, data: Any) -> Self:
        """This space for networks that take ``data``. Raises `OcheError` for data of another kind."""
        self.check_domain(data)
        return replace(self, classes=len(data.classes), in_channels=data.channels, image=data.image)

    def check_domain(self, data: Any) -> None:
        """Raises `OcheError` where its networks do not take ``data``."""
        found = "text" if hasattr(data, "vocabulary") else "images"
        if found != self.domain:
            use = {"text": "--data ptb or a text file", "images": "--data cifar10, say"}[self.domain]
            other = {"text": "--space recurrent", "images": "--space darts"}[found]
            raise OcheError(
                f"this space is one of networks for {self.domain}, and {data.name} is {found}; use {use}, or {other}"
            )

    def suited(self, method: M) -> M:
        """``method`` with what the published searches in this space do otherwise than on images."""
        return method

    def about(self, data: Any) -> dict[str, Any]:
        """What a report says of the networks' inputs and outputs."""
        return {"image": self.image, "in_channels": self.in_channels, "classes": data.classes}

    def example(self, engine: Any) -> tuple[Any, ...]:
        """An input of a supernet, of one image (or word)."""
        return (engine.images(torch.zeros(1, self.in_channels, *self.image)),)

    def check_edge(self, edge: Any) -> None:
        """Raises `OcheError` where ``edge`` cannot stand on the edges of its supernet; builds nothing."""
        edge.check(self)

    @property
    def plans(self) -> Sequence[CellPosition]:
        """The searched cells of the supernet, in order."""
        raise NotImplementedError

    def candidate(self, name: str, channels: int, stride: int) -> nn.Module:
        """Operation ``name`` as it stands in the supernet."""
        raise NotImplementedError

    def supernet(self, edge: Any = ...) -> nn.Module:
        """A fresh supernet, called as ``net(x, {group: Mix})``; ``edge`` builds what stands on each edge."""
        raise NotImplementedError

    def read(self, kept: Mapping[str, Tensor]) -> Genotype:
        """The genotype that narrowed masks (E, O) stand for."""
        raise NotImplementedError

    def random(self, generator: torch.Generator) -> Genotype:
        """An architecture drawn uniformly."""
        raise NotImplementedError

    def describe(self) -> list[dict]:
        """One row a part of the supernet, for reports: {"name", "channels", "size"}."""
        raise NotImplementedError
