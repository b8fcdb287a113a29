"""Data sets as users of PyTorch hand them over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch.utils.data import Dataset, IterableDataset


def arrays(n: int = 24, side: int = 12, channels: int = 3, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, C) uint8, brighter by class, and labels (N,)."""
    y = np.arange(n) % classes
    x = np.random.default_rng(0).integers(0, 120, (n, side, side, channels)) + 30 * y[:, None, None, None]
    return x.astype(np.uint8), y


class Items(Dataset):
    """A map-style data set of given items. An exception among them is raised where its item is asked for."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        if isinstance(self.items[i], Exception):
            raise self.items[i]
        return self.items[i]


class Vision(Items):
    """The same with the list of classes that torchvision's data sets have."""

    classes = ("ant", "bee", "cat", "dog")


class Stream(IterableDataset):
    """A data set without length."""

    def __iter__(self):
        yield from zip(*arrays(), strict=True)


class CIFAR10(Vision):
    """Named as torchvision's."""


def pictures(*sizes: tuple[int, int], mode: str = "RGB") -> list[tuple[PIL.Image.Image, int]]:
    """PIL images of ``sizes`` (H, W) with the labels 0, 1, 2, 0 …"""
    rng = np.random.default_rng(0)
    found = []
    for i, (h, w) in enumerate(sizes):
        image = PIL.Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)).convert(mode)
        found.append((image, i % 3))
    return found


def one_hot(y: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(y)).float()


# --- tables of Hugging Face, by a stand-in with their interface


class Image:
    pass


class ClassLabel:
    def __init__(self, *names):
        self.names = list(names)


class Value:
    pass


class Table:
    """A `datasets.Dataset`. ``transform`` maps rows, as its `with_transform` does."""

    def __init__(self, columns, features, transform=lambda row: row):
        self.columns, self.features, self.transform = columns, features, transform
        self.shape, self.info = (len(self), len(columns)), SimpleNamespace(dataset_name="bees")

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns[key]
        return self.transform({name: column[key] for name, column in self.columns.items()})


def table(images=None, labels=None, transform=lambda row: row, image="photo", label="kind", **features):
    images = [p for p, _ in pictures(*[(9, 9)] * 6)] if images is None else images
    labels = [0, 1, 0, 1, 0, 1] if labels is None else labels
    kinds = {"id": Value(), image: Image(), label: ClassLabel("ant", "bee")} | features
    return Table({"id": list(range(len(images))), image: images, label: labels}, kinds, transform)
