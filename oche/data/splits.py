"""Choose the images of a split: a test part for sets that come without one, and a smaller training part.

Both functions look at labels (N,) int64 alone. They return indices (K,) int64 in ascending order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.core.seeds import generator

_HOLDOUT_SEED = 0  # fixed, not the seed of the run; see `held_out`


def held_out(labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return (training, test) indices.

    The test part is a random ``share`` of each class, rounded, at least one of two images.

    The choice depends on the labels alone, not on the seed of a run. So runs with different seeds are tested on the same
    images, and a network from a search is never tested on images that the search has seen.

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
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()


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
            f"limit={limit} training images leave some of the {len(groups)} classes without one; use {len(groups)} or more"
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
