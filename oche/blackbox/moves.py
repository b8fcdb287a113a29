"""The operations of a space on genotypes, for black-box strategies: draw, mutate, list neighbours, name, encode.

Random numbers come from ``random.Random``, so that a strategy of thousands of queries is quick and its state is a seed.
A genotype is built from decisions, one integer each. A policy over a space draws decisions.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import product
from typing import Any, Literal, Protocol

import numpy as np

from oche.core.architecture import Genotype
from oche.core.errors import OcheError

Encoding = Literal["one-hot", "paths", "graph"]


class Variation(Protocol):
    """What evolution and random search need of a space. Architectures are of any kind, such as masks of a supernet."""

    def random(self, g: random.Random) -> Any: ...

    def mutate(self, x: Any, g: random.Random) -> Any: ...


class Moves(ABC):
    """The operations of one space on genotypes.

    ``decisions``: the number of values of each decision that builds a genotype. ``size``: the number of genotypes, None if
    there are too many to list.
    """

    decisions: tuple[int, ...]
    size: int | None = None

    @abstractmethod
    def build(self, values: Sequence[int]) -> Genotype:
        """Return the genotype of one value for each of ``decisions``."""

    def random(self, g: random.Random) -> Genotype:
        """Draw a genotype uniformly."""
        return self.build([g.randrange(n) for n in self.decisions])

    @abstractmethod
    def mutate(self, x: Genotype, g: random.Random) -> Genotype:
        """Return ``x`` with one change: an edge gets another operation or, where nodes choose their inputs, another source."""

    @abstractmethod
    def neighbours(self, x: Genotype) -> list[Genotype]:
        """Return all genotypes that one mutation of ``x`` may give, each once."""

    @abstractmethod
    def key(self, x: Genotype) -> str:
        """Return a text that is equal exactly for genotypes that are evaluated as one."""

    def class_key(self, x: Genotype) -> str:
        """Return a text that is equal for genotypes that compute the same, as far as the space can tell."""
        return self.key(x)

    @abstractmethod
    def encode(self, x: Genotype, kind: Encoding) -> np.ndarray:
        """Return ``x`` as a vector (F,) of zeros and ones, for "graph" as in `oche.blackbox.graph_network.graph_of`.

        Raises `OcheError` if the space has no such encoding.
        """

    @abstractmethod
    def smallest(self) -> list[Genotype]:
        """Return the genotypes of complexity 1, for progressive search."""

    @abstractmethod
    def grow(self, x: Genotype) -> list[Genotype]:
        """Return the genotypes with one more part than ``x``; none if ``x`` is complete."""

    def everything(self) -> list[Genotype]:
        """Return all genotypes. Raises `OcheError` if there are too many."""
        if self.size is None:
            raise OcheError("this space has too many architectures to list them; use a strategy that draws them")
        return [self.build(values) for values in product(*(range(n) for n in self.decisions))]

    @property
    def default_encoding(self) -> Encoding:
        """The encoding that predictors use unless told otherwise."""
        return "one-hot"
