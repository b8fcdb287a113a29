"""Data, spaces and sessions small enough for a test."""

from __future__ import annotations

import copy

import torch

from oche.data import Augment, Dataset, Resident
from oche.spaces import ConvSpace
from oche.training.loop import Session

CANDIDATES = ("none", "avg_pool_3x3", "skip_connect", "sep_conv_3x3")


def space(**fields) -> ConvSpace:
    """Three cells of two nodes, both reductions among them."""
    fixed = dict(channels=2, cells=3, nodes=2, candidates=CANDIDATES, classes=3, in_channels=1, image=(8, 8))
    return ConvSpace(**{**fixed, **fields})


def dataset(
    train: int = 24, test: int = 12, classes: int = 3, augment: Augment | None = None, side: int = 8
) -> Dataset:
    """Grey square images: noise with one bright stripe, whose place is the class."""
    g = torch.Generator().manual_seed(7)

    def split(n: int) -> Resident:
        images = torch.randint(0, 120, (n, 1, side, side), generator=g, dtype=torch.uint8)
        labels = torch.arange(n) % classes
        for i, label in enumerate(labels.tolist()):
            images[i, :, 2 * label : 2 * label + 2] += 120
        return Resident(images, labels)

    names = tuple(f"stripe {c}" for c in range(classes))
    augment = Augment(pad=1, flip=True) if augment is None else augment
    return Dataset("stripes", split(train), split(test), names, (0.3,), (0.25,), augment)


def marked(train: int) -> Dataset:
    """Image i is the constant i + 1 (so crops and flips do not hide which it is); normalisation leaves i + 1 / 255."""
    images = torch.arange(1, train + 1, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    split = Resident(images, torch.arange(train) % 3)
    return Dataset("marked", split, None, ("a", "b", "c"), (0.0,), (1.0,), Augment(pad=2, flip=True))


def marks(x: torch.Tensor) -> list[int]:
    """Which images of `marked` a prepared batch holds."""
    return [round(255 * v) - 1 for v in x.amax((1, 2, 3)).tolist()]


class Kept(Session):
    """Keeps every state, as a checkpoint file would give it back."""

    def __init__(self, start=None) -> None:
        super().__init__()
        self.start, self.states = start, []
        self.history = copy.deepcopy(start[1]) if start else []

    def restore(self):
        return self.start and self._read(self.start[0])

    def due(self) -> bool:
        return True

    def save(self, step, state) -> None:
        from oche.runs.checkpoint import to_bytes

        self.states.append((to_bytes(state), copy.deepcopy(self.history)))

    @staticmethod
    def _read(data):
        from oche.runs.checkpoint import from_bytes

        return from_bytes(data)


def plain(history):
    """Records without the times they took."""
    return [{k: v for k, v in record.items() if k != "timings"} for record in history]
