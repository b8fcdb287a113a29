"""A language model around a recurrent cell: an embedding, dropouts whose masks stay fixed over time, and a decoder tied to the
embedding (AWD-LSTM, 1708.02182; as DARTS uses it, 1806.09055 §3.2 and appendix A.2).

Shapes: T steps, B streams, H width, V words.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.core.errors import OcheError
from oche.core.registry import component
from oche.networks.rnn_autograd import masked

INIT_RANGE = 0.04  # initial weights are uniform in ± this (released code)


@component
@dataclass(frozen=True)
class Dropouts:
    """Dropout probabilities. All dropouts are variational (1512.05287): one draw serves all steps of a window.

    Raises `OcheError` for probabilities outside [0, 1).
    """

    output: float = 0.75
    """of the cell's outputs, before the decoder"""
    hidden: float = 0.25
    """of states, within the cell and from step to step"""
    input: float = 0.75
    """of the cell's inputs"""
    embedding: float = 0.2
    """of the entries of embedded words"""
    words: float = 0.0
    """of whole words"""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= (rate := getattr(self, field.name)) < 1:
                raise OcheError(
                    f"dropouts: {field.name}={rate} is not a probability below 1; use 0 <= {field.name} < 1"
                )


class DropoutMasks(NamedTuple):
    """One draw of all dropouts. Entries are 0 or 1 / (1 − rate); None drops nothing."""

    output: Tensor | None = None  #: (B, H)
    hidden: Tensor | None = None  #: (B, H)
    input: Tensor | None = None  #: (B, H)
    embedding: Tensor | None = None  #: (B, H)
    words: Tensor | None = None  #: (V,)


class LanguageOutput(NamedTuple):
    """The output of a language model for one window."""

    logits: Tensor  #: (T, B, V) for the next word
    hidden: Tensor  #: (1, B, H) the state at the start of the next window
    raw: Tensor  #: (T, B, H) the outputs of the cell, for temporal activation regularisation
    dropped: Tensor  #: (T, B, H) the same after dropout, for activation regularisation


class LanguageModel(nn.Module):
    """A language model around a recurrent cell.

    ``cell`` maps (x (T, B, H), state (B, H), mask of x, mask of states, …) to outputs (T, B, H). Raises `OcheError` for a
    model without words or width.
    """

    def __init__(self, cell: nn.Module, vocabulary: int, width: int, dropouts: Dropouts) -> None:
        super().__init__()
        check_sizes(vocabulary, width)
        self.dropouts = dropouts
        self.embedding = nn.Embedding(vocabulary, width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.cell = cell
        nn.init.uniform_(self.embedding.weight, -INIT_RANGE, INIT_RANGE)

    @property
    def width(self) -> int:
        """H"""
        return self.embedding.embedding_dim

    @property
    def vocabulary(self) -> int:
        """V, the number of words."""
        return self.embedding.num_embeddings

    def start(self, batch: int) -> Tensor:
        """Return (1, B, H) zeros, the state at the beginning of a text."""
        return self.embedding.weight.new_zeros(1, batch, self.width)

    def masks(self, batch: int, generator: torch.Generator | None = None) -> DropoutMasks:
        """Draw all dropouts. ``generator`` must be on the network's device; None draws from torch's global generator."""
        weight = self.embedding.weight

        def draw(name: str) -> Tensor | None:
            rate = getattr(self.dropouts, name)
            shape = (self.vocabulary,) if name == "words" else (batch, self.width)
            if rate == 0:
                return None
            kept = torch.rand(shape, generator=generator, device=weight.device) >= rate
            return kept.to(weight.dtype) / (1 - rate)

        return DropoutMasks(*map(draw, DropoutMasks._fields))

    def apply_form(self, engine: str) -> str:
        """Use the fused form of the cell unless ``engine`` is "plain".

        Return a description, or "" for a cell with one form.
        """
        cell: Any = self.cell
        if not hasattr(cell, "fused"):
            return ""
        cell.fused = engine != "plain"
        return "fused, unrolled over a window" if cell.fused else "as plain modules, as asked"

    def describe(self) -> list[dict]:
        """Return one row for each part of the network, for reports: {"name", "channels"}."""
        return describe(self.width, self.vocabulary)

    def run(self, tokens: Tensor, hidden: Tensor | None, masks: DropoutMasks, *context) -> LanguageOutput:
        """Compute the output for tokens (T, B) from the state ``hidden`` (None: zeros).

        ``context`` is passed on to the cell.
        """
        state = self.start(tokens.shape[1]) if hidden is None else hidden
        x = self.embedding(tokens)
        if masks.words is not None:
            x = x * masks.words[tokens].unsqueeze(-1)
        raw = self.cell(masked(x, masks.embedding), state[0], masks.input, masks.hidden, *context)
        dropped = masked(raw, masks.output)
        return LanguageOutput(F.linear(dropped, self.embedding.weight, self.bias), raw[-1:], raw, dropped)


def describe(width: int, vocabulary: int) -> list[dict]:
    """Return one row for each part of a language model, for reports: {"name", "channels"}."""
    parts = (("embedding", width), ("recurrent", width), ("decoder", vocabulary))
    return [{"name": name, "channels": channels} for name, channels in parts]


def check_sizes(vocabulary: int, width: int) -> None:
    """Raise `OcheError` for a language model without words or without width."""
    if vocabulary < 1 or width < 1:
        raise OcheError(f"vocabulary={vocabulary}, width={width} make no language model; use numbers of at least 1")
