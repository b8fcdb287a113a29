"""What every search space offers to the loop, to decisions and to reports, and where a supernet's cells stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    import torch

    from ..arch import Dag, Genotype


class Plan(Protocol):
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

    recipe: ClassVar[str] = "darts"  #: name of the training that its networks are published with

    if TYPE_CHECKING:  # fields of every space, declared there so that each keeps its own order and defaults
        candidates: tuple[str, ...]
        classes: int
        in_channels: int
        image: tuple[int, int]
        affine: bool

    @property
    def groups(self) -> dict[str, Dag]:
        """The cells to be found, by name; logits and masks (E, O) have one row an edge, one column a candidate."""
        raise NotImplementedError

    @property
    def plans(self) -> Sequence[Plan]:
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
