"""Recipes for the final network of a recurrent cell, a language model: its size and its training (1806.09055 appendix
A.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar

import torch

from oche.core.architecture import Genotype
from oche.core.arguments import checked
from oche.core.budget import Budget
from oche.core.errors import OcheError
from oche.core.genotypes import resolve
from oche.core.registry import component
from oche.data.text.bptt import parallel_streams
from oche.data.text.corpus import Corpus
from oche.networks.language_model import Dropouts, LanguageModel
from oche.networks.lstm import LSTM, LSTMNetwork
from oche.spaces.darts_rnn import GROUP, RecurrentNetwork


@component
@dataclass(frozen=True)
class PlainSgd:
    """SGD without momentum at one learning rate, the usual optimiser of language models."""

    lr: float = 20.0
    """learning rate of a window of ``bptt`` words; other lengths are scaled in proportion"""
    decay: float = 8e-7
    """weight decay"""
    clip: float = 0.25
    """largest norm of the whole gradient; 0: no clipping"""

    def __post_init__(self) -> None:
        if not (0 < self.lr < inf and 0 <= self.decay < inf and 0 <= self.clip < inf):
            raise OcheError(
                f"lr={self.lr}, decay={self.decay}, clip={self.clip} cannot train; use lr > 0, decay >= 0, clip >= 0"
            )


@component
@dataclass(frozen=True)
class LanguageRecipe:
    """The size and the training of a language model. Defaults are DARTS' for the Penn Treebank."""

    domain: ClassVar[str] = "text"  #: the kind of data that its networks take

    width: int = 850
    """size of embedded words and of the cell's states"""
    dropouts: Dropouts = Dropouts(words=0.1)
    """probabilities of dropping"""
    w: PlainSgd = PlainSgd()
    """optimiser"""
    batch: int = 64
    """parallel streams of text"""
    bptt: int = 35
    """words of a window, the steps of truncated backpropagation"""
    varying: bool = True
    """whether windows vary in length around bptt, and the learning rate with them"""
    temporal: float = 1e-3
    """strength of temporal activation regularisation: mean square of the change of the cell's output between steps"""
    activation: float = 0.0
    """strength of activation regularisation: mean square of the cell's dropped output"""
    patience: int = 5
    """averaging starts once a validation loss exceeds the best one of more than this many epochs ago"""
    epochs: int = 8000
    """passes over the training text"""
    steps: int | None = None
    """length in steps instead of epochs"""
    budget: str | None = None
    """length in time instead of epochs: 90s, 10m, 1h30m"""
    valid_batch: int = 10
    """streams in validation, fewer for a short text"""
    test_batch: int = 1
    """streams in the test"""

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("width", "batch", "bptt", "valid_batch", "test_batch")}
        if small := [f"{name}={value}" for name, value in sizes.items() if value < 1]:
            raise OcheError(f"{', '.join(small)} is too small to train; use 1 or more")
        if not (0 <= self.temporal < inf and 0 <= self.activation < inf) or self.patience < 1:
            raise OcheError(
                f"temporal={self.temporal}, activation={self.activation}, patience={self.patience} cannot train; "
                "use temporal >= 0, activation >= 0, patience >= 1"
            )
        _ = self.length  # raises for invalid values

    @property
    def length(self) -> Budget:
        """The length of the training, in epochs, steps or time."""
        return Budget.of(self.epochs, self.steps, self.budget)

    def network(self, genotype: Genotype | str, vocabulary: int) -> LanguageModel:
        """Return the language model of a recurrent genotype, or the baseline for "lstm". Raises `OcheError` for other
        genotypes.
        """
        if genotype == LSTM:
            return LSTMNetwork(vocabulary, self.width, self.dropouts)
        return RecurrentNetwork(genotype, vocabulary, self.width, self.dropouts)

    def check(self, genotype: str, corpus: Corpus, engine: object = None) -> None:
        """Raise `OcheError` if this recipe cannot train a language model of ``genotype`` on ``corpus``.

        It cannot if the genotype is not recurrent, or if the training text is too short for ``batch`` streams of
        ``bptt`` steps.
        """
        del engine  # any device works
        with torch.device("meta"):  # no memory is taken
            self.network(genotype, len(corpus.vocabulary))
        parallel_streams(corpus.train, self.batch, self.bptt)


@checked
def recurrent(**fields) -> LanguageRecipe:
    """The published setting for language models: width 850, batch 64, windows of about 35 words, averaged SGD."""
    return replace(LanguageRecipe(), **fields)


@checked
def recurrent_small(**fields) -> LanguageRecipe:
    """For two CPU cores and language models: width 128, 10 epochs, batch 32, less dropout; test in 10 streams."""
    drop = Dropouts(output=0.2, hidden=0.1, input=0.2, embedding=0.1, words=0.0)
    size = dict(width=128, epochs=10, batch=32, dropouts=drop, test_batch=10)
    return replace(LanguageRecipe(), **{**size, **fields})


RECIPES: dict[str, Callable[..., LanguageRecipe]] = {"recurrent": recurrent, "recurrent-small": recurrent_small}


def is_language(genotype: Genotype | str) -> bool:
    """Whether ``genotype`` describes a language model: a `Genotype`, its text, a published name, or "lstm"."""
    return genotype == LSTM or [*resolve(genotype).cells] == [GROUP]
