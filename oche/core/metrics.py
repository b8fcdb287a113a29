"""Means of loss and accuracy over many batches, added up where the tensors are."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


class Meter:
    """Sums of loss and right answers, kept on the device: state is (loss · n, right, n) as one float64 tensor.

    ``total`` makes of what one batch adds, in place, what is added; over several ranks, their sum.
    """

    def __init__(
        self, device: torch.device | str = "cpu", total: Callable[[Tensor], Tensor] = lambda added: added
    ) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)
        self.total = total

    def add(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """logits (B, classes), labels (B,), loss: mean over the batch."""
        right = (logits.argmax(1) == labels).sum()
        n = torch.full((), len(labels), device=self.sums.device)
        self.sums += self.total(torch.stack([loss.detach().double() * len(labels), right.double(), n.double()]))

    def means(self) -> tuple[float | None, float | None]:
        """(mean loss, accuracy); None before the first batch. Waits for the device."""
        loss, right, n = self.sums.tolist()
        return (loss / n, right / n) if n else (None, None)

    measure = "acc"  #: what records have beside the loss

    def numbers(self, name: str) -> dict[str, float | None]:
        """`means` as a record has them, for the part of the data called ``name``."""
        loss, accuracy = self.means()
        return {f"{name}_loss": loss, f"{name}_{self.measure}": accuracy}


class WordMeter(Meter):
    """Sums of the loss of a language model alone, over words: accuracies mean little there, and take a pass over logits."""

    measure = "ppl"

    def add_words(self, loss: Tensor, words: int) -> None:
        """loss: mean over ``words``."""
        total = loss.detach().double() * words
        self.sums += torch.stack([total, torch.zeros_like(total), torch.full_like(total, words)])

    def numbers(self, name: str) -> dict[str, float | None]:
        loss, _ = self.means()
        return {f"{name}_loss": loss, f"{name}_{self.measure}": None if loss is None else perplexity(loss)}


def perplexity(loss: float) -> float:
    """exp(loss), the loss in nats a word; infinite where that is beyond all numbers."""
    return math.exp(loss) if loss < 709 else math.inf
