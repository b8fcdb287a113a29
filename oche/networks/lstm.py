"""The baseline of language models: one LSTM layer in the same network with the same dropouts as a recurrent cell.

Shapes: T steps, B streams, H width, V words.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oche.networks.language_model import DropoutMasks, Dropouts, LanguageModel, LanguageOutput
from oche.networks.rnn_autograd import masked

LSTM = "lstm"  # the name that stands for it in place of a genotype


class LSTMLayer(nn.Module):
    """One LSTM layer (Hochreiter and Schmidhuber, 1997).

    The gates are in the order of `torch.nn.LSTM`: in, forget, new, out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 4 * width)
        self.outer = nn.Linear(width, 4 * width, bias=False)
        for weight in self.parameters():
            nn.init.uniform_(weight, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, x: Tensor, state: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (outputs (T, B, H), last state (2, B, H)) for x (T, B, H). A state holds the last output and the memory.

        ``mask`` (B, H) drops entries of the last output before the gates, the same entries at every step (1512.05287).
        """
        h, c = state.unbind()
        outputs = []
        for gates in self.inner(x).unbind():
            gates = gates + self.outer(masked(h, mask))
            into, forget, new, out = gates.chunk(4, 1)
            c = forget.sigmoid() * c + into.sigmoid() * new.tanh()
            h = out.sigmoid() * c.tanh()
            outputs.append(h)
        return torch.stack(outputs), torch.stack([h, c])


class LSTMNetwork(LanguageModel):
    """The language model with one LSTM layer. Maps tokens (T, B) to a `LanguageOutput` whose ``hidden`` is (2, B, H)."""

    def __init__(self, vocabulary: int, width: int, dropouts: Dropouts = Dropouts(words=0.1)) -> None:
        super().__init__(LSTMLayer(width), vocabulary, width, dropouts)

    def describe(self) -> list[dict]:
        """Return one row for each part of the network, for reports: {"name", "channels"}."""
        return [{**row, "name": LSTM} if row["name"] == "recurrent" else row for row in super().describe()]

    def start(self, batch: int) -> Tensor:
        """Return (2, B, H) zeros, the state at the beginning of a text."""
        return self.embedding.weight.new_zeros(2, batch, self.width)

    def forward(
        self, tokens: Tensor, hidden: Tensor | None = None, masks: DropoutMasks | None = None
    ) -> LanguageOutput:
        """Compute the output for tokens (T, B) from the state ``hidden`` (2, B, H); None means zeros.

        In training mode dropouts are drawn anew, or are those of ``masks``. In evaluation mode nothing is dropped.
        """
        batch = tokens.shape[1]
        if not self.training:
            masks = DropoutMasks()
        masks = self.masks(batch) if masks is None else masks
        x = self.embedding(tokens)
        if masks.words is not None:
            x = x * masks.words[tokens].unsqueeze(-1)
        x = masked(masked(x, masks.embedding), masks.input)
        raw, state = self.cell(x, self.start(batch) if hidden is None else hidden, masks.hidden)
        dropped = masked(raw, masks.output)
        return LanguageOutput(F.linear(dropped, self.embedding.weight, self.bias), state, raw, dropped)


def width_for_weights(weights: int, vocabulary: int) -> int:
    """Return the width H at which `LSTMNetwork` has the number of weights nearest to ``weights``.

    It has 8 H² + (V + 4) H + V weights.
    """
    b = vocabulary + 4
    exact = (math.sqrt(b * b + 32 * max(0, weights - vocabulary)) - b) / 16
    near = {max(1, math.floor(exact)), max(1, math.ceil(exact))}
    return min(near, key=lambda width: abs(8 * width**2 + b * width + vocabulary - weights))
