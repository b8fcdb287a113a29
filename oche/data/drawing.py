"""The parts of a data set as a new run draws them: a test part, the images of a limit, and the record of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.data.dataset import Split
from oche.data.manifest import FIRST, TEST, UNUSED, Manifest
from oche.data.readers.records import RawDataset
from oche.data.splits import balanced_subset, held_out


@dataclass(frozen=True)
class Parts:
    """The parts of a data set: ``found`` with its training and test images."""

    found: RawDataset
    manifest: Manifest | None = None
    first_half: Tensor | None = None
    """(N,) bool of the training images, if the halves of a search were recorded"""
    changes: str = ""
    """what is new, gone or changed since the earlier run, in one line"""


Choose = Callable[[RawDataset], Parts]


def draw(
    found: RawDataset, holdout: float, limit: int | None, seed: int, seen: Tensor | None = None, where: str = ""
) -> Parts:
    """Hold out a test part if ``found`` has none, and limit the training part.

    ``seen`` (K,): ids of images of the run ``where`` that must not be held out; they train. Raises `OcheError`.
    """
    whole, test = found.train, found.test
    published = test is not None
    codes = torch.full((len(whole) + (len(test) if test is not None else 0),), TEST, dtype=torch.uint8)
    rows = torch.arange(len(whole))
    if not published and holdout:
        rows, test_rows = held_out(whole.labels, holdout, whole.ids)
        if seen is not None and whole.ids is not None:
            test_rows = test_rows[~torch.isin(whole.ids[test_rows], seen)]
            rows = absent(len(whole), test_rows)
            if not len(test_rows):
                raise OcheError(
                    f"{where} has seen so many images of {found.name} that none is left to test on; use holdout 0, or train "
                    "without the run: give its genotype"
                )
        test = whole.subset(test_rows)
    codes[rows] = UNUSED
    if limit is not None:
        rows = rows[balanced_subset(whole.labels[rows], limit, seed)]
    codes[rows] = FIRST
    train = whole if len(rows) == len(whole) else whole.subset(rows)
    ids, labels = joined(found)
    facts = {"holdout": holdout, "limit": limit, "seed": seed}
    manifest = None if ids is None else Manifest(ids, labels, codes, found.classes, published, facts)
    note = "; ".join(filter(None, (found.note, leak(train, test))))
    return Parts(replace(found, train=train, test=test, note=note), manifest)


def joined(found: RawDataset) -> tuple[Tensor | None, Tensor]:
    """Return the ids (N,) and labels (N,) of all images, the published test images last."""
    splits = [split for split in (found.train, found.test) if split is not None]
    ids = [split.ids for split in splits if split.ids is not None]
    return (torch.cat(ids) if len(ids) == len(splits) else None), torch.cat([split.labels for split in splits])


def leak(train: Split, test: Split | None) -> str:
    """Return a note about test images that are training images too."""
    if test is None or train.ids is None or test.ids is None:
        return ""
    twice = int(torch.isin(test.ids, train.ids).sum())
    return f"{twice:,} of the {len(test):,} test images are also training images" if twice else ""


def absent(count: int, rows: Tensor) -> Tensor:
    """Return the numbers below ``count`` that are not in ``rows``, ascending."""
    there = torch.zeros(count, dtype=torch.bool)
    there[rows] = True
    return (~there).nonzero().flatten()
