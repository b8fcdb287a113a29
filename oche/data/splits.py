"""Choose the images of a split: a test part for sets that come without one, and a smaller training part.

They look at labels (N,) int64, and at the ids (N,) int64 of images for copies. Indices (K,) int64 are in ascending order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oche.core.errors import OcheError, plural
from oche.core.seeds import generator

_HOLDOUT_SEED = 0  # fixed, not the seed of the run; see `held_out`


def held_out(labels: Tensor, share: float, ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return (training, test) indices.

    The test part is a random ``share`` of each class, rounded, at least one of two images.

    The choice depends on the labels alone, not on the seed of a run. So runs with different seeds are tested on the same
    images, and a network from a search is never tested on images that the search has seen. Runs record the choice, so it
    stays when images are added or removed. Copies of an image, which share its id, go to the part of the first copy.

    Raises `OcheError` for an impossible share, and if every class has only one image.
    """
    if not 0 < share < 1:
        raise OcheError(
            f"holdout={share} is not a share of the images; use 0 < holdout < 1, or 0 to go without a test part"
        )
    test = []
    for rows in _by_class(labels, generator(_HOLDOUT_SEED, "holdout")):
        test.append(rows[: min(max(1, round(share * len(rows))), len(rows) - 1)])
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.cat(test)] = True
    if not chosen.any():
        raise OcheError(
            f"holdout={share} finds one image in each class and must leave it to training; use 0, or add images"
        )
    chosen = keep_copies_together(chosen, labels, ids)
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()


def keep_copies_together(chosen: Tensor, labels: Tensor, ids: Tensor | None) -> Tensor:
    """Return ``chosen`` (N,) bool with every copy of an image on the side of the first copy.

    A class that would then be missing on one side, because nearly all of its images are copies, stays as it was. Without
    ``ids`` nothing changes.
    """
    if ids is None:
        return chosen
    distinct, group = ids.unique(return_inverse=True)
    n = len(ids)
    if len(distinct) == n:
        return chosen
    first = torch.full((len(distinct),), n).scatter_reduce(0, group, torch.arange(n), "amin")
    moved = chosen[first[group]]
    classes = int(labels.max()) + 1

    def classes_with(side: Tensor) -> Tensor:
        return torch.bincount(labels[side], minlength=classes) > 0

    lost = (classes_with(chosen) & ~classes_with(moved)) | (classes_with(~chosen) & ~classes_with(~moved))
    return torch.where(lost[labels], chosen, moved)


def balanced_subset(labels: Tensor, limit: int, seed: int) -> Tensor:
    """Return the indices of ``limit`` random images, equally many of each class, give or take one.

    Small classes are used up first.

    Raises `OcheError` if the limit leaves a class without an image.
    """
    if limit >= len(labels):
        return torch.arange(len(labels))
    groups = _by_class(labels, generator(seed, "limit"))
    if limit < len(groups):
        raise OcheError(
            f"limit={limit} leaves some of the {plural(len(groups), 'class')} without a training image; use {len(groups)} or more"
        )
    chosen: list[Tensor] = []
    left = limit
    for k, rows in enumerate(sorted(groups, key=len)):  # smallest first: the images that they lack come from the others
        chosen.append(rows[: left // (len(groups) - k)])
        left -= len(chosen[-1])
    return torch.cat(chosen).sort().values


def _by_class(labels: Tensor, g: torch.Generator) -> list[Tensor]:
    """Return the rows of each class that occurs, in random order."""
    order = torch.randperm(len(labels), generator=g)
    shuffled = labels[order]
    return [order[shuffled == c] for c in shuffled.unique()]
