"""Mean loss, accuracy and perplexity over many batches, summed on the device."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


class Meter:
    """Sums of loss and correct answers, kept on the device as one float64 tensor (loss · n, correct, n).

    ``total`` maps the three numbers of one batch to the numbers that are added; it may work in place. With several processes it
    returns their sum over all processes.
    """

    def __init__(
        self, device: torch.device | str = "cpu", total: Callable[[Tensor], Tensor] = lambda added: added
    ) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)
        self.total = total

    def add(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Add one batch: logits (B, classes), labels (B,), loss the mean over the batch."""
        correct = (logits.argmax(1) == labels).sum()
        n = torch.full((), len(labels), device=self.sums.device)
        self.sums += self.total(torch.stack([loss.detach().double() * len(labels), correct.double(), n.double()]))

    def means(self) -> tuple[float | None, float | None]:
        """Return (mean loss, accuracy), or (None, None) before the first batch. Waits for the device."""
        loss, correct, n = self.sums.tolist()
        return (loss / n, correct / n) if n else (None, None)

    measure = "acc"  #: the name of the second number in records

    def numbers(self, name: str) -> dict[str, float | None]:
        """Return the fields of a record for the part of the data called ``name``, such as val_loss and val_acc."""
        loss, accuracy = self.means()
        return {f"{name}_loss": loss, f"{name}_{self.measure}": accuracy}


class WordMeter(Meter):
    """Sums of the loss of a language model over words, reported as perplexity.

    Accuracy means little for language models and would take another pass over the logits.
    """

    measure = "ppl"

    def add_words(self, loss: Tensor, words: int) -> None:
        """Add one batch of ``words`` words; ``loss`` is the mean over them, in nats."""
        total = loss.detach().double() * words
        self.sums += torch.stack([total, torch.zeros_like(total), torch.full_like(total, words)])

    def numbers(self, name: str) -> dict[str, float | None]:
        """Return the fields of a record, such as val_loss and val_ppl."""
        loss, _ = self.means()
        return {f"{name}_loss": loss, f"{name}_{self.measure}": None if loss is None else perplexity(loss)}


def perplexity(loss: float) -> float:
    """Return exp(loss) for a loss in nats a word; infinity where that exceeds all floats."""
    return math.exp(loss) if loss < 709 else math.inf
