"""Texts and recurrent spaces small enough for a test."""

from __future__ import annotations

import torch

from oche.core.optimizers import Adam, Sgd
from oche.data.text.corpus import Corpus
from oche.methods.recipe import SearchRecipe
from oche.networks.language_model import Dropouts
from oche.spaces import RecurrentSpace, recurrent

WORDS = ["<eos>", "<unk>", "a", "b", "c", "d"]


def corpus(train: int = 60, valid: int = 40) -> Corpus:
    """A walk over the words, in which each says much about the next."""
    g = torch.Generator().manual_seed(3)

    def walk(n: int) -> torch.Tensor:
        steps = torch.randint(1, 3, (n,), generator=g)
        return steps.cumsum(0) % len(WORDS)

    return Corpus("walk", walk(train), walk(valid), walk(valid), WORDS)


def space(**fields) -> RecurrentSpace:
    """A cell of three nodes, four units wide, on windows of three words."""
    drop = Dropouts(output=0.3, hidden=0.2, input=0.3, embedding=0.2, words=0.1)
    fixed = dict(nodes=3, width=4, vocabulary=len(WORDS), bptt=3, dropouts=drop, temporal=0.1)
    return recurrent(**{**fixed, **fields})


W = Sgd(lr=0.5, lr_min=0.5, momentum=0.0, decay=0.01, clip=0.05, clip_ahead=True)
A = Adam(lr=0.02, decay=0.05, init=0.3)


def method(**fields):
    return SearchRecipe(**{**dict(weight_optimizer=W, arch_optimizer=A, batch=4, steps=6), **fields})
