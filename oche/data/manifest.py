"""The membership of the images of a run: which train, validate and test, each known by its content.

An image is known by its id, 64 bits of a hash of its content (`oche.data.identity`). Names, folders and positions do not
count, so files may be renamed, moved, added and removed without an image changing its part.

Shapes: M images of a manifest, N images of the data as they are now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from oche.core.errors import OcheError

FIRST, SECOND, TEST, UNUSED = range(
    4
)  #: the two parts of a search's training images (or the one), the test part, no part
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Manifest:
    """The images of a run in the order of their data set, with the part of each."""

    ids: Tensor
    """(M,) int64"""
    labels: Tensor
    """(M,) int64, numbers of ``classes``"""
    parts: Tensor
    """(M,) uint8: `FIRST`, `SECOND`, `TEST` or `UNUSED` (left out by ``limit``)"""
    classes: tuple[str, ...]
    published: bool
    """whether the test part came with the data, rather than being held out"""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """seed, split, holdout, limit, image (H, W), channels, mean, std and note, as the run began"""

    @property
    def halves(self) -> tuple[float, int] | None:
        """(share of the first half, seed of the run) if the training images were divided in two; else None."""
        split = self.facts.get("split")
        return None if split is None else (split, self.facts["seed"])

    def members(self, *parts: int) -> Tensor:
        """Return the places (K,) int64 of the images in any of ``parts``, ascending."""
        return torch.isin(self.parts, torch.tensor(parts, dtype=torch.uint8)).nonzero().flatten()

    def with_facts(self, **facts: Any) -> Manifest:
        """Return the manifest with further facts."""
        return replace(self, facts={**self.facts, **facts})

    def divided(self, first: Tensor, split: float, seed: int) -> Manifest:
        """Return the manifest with its training images in two halves; ``first`` (K,) bool are those of the first."""
        parts = self.parts.clone()
        parts[self.members(FIRST, SECOND)] = torch.where(first, FIRST, SECOND).to(torch.uint8)
        return replace(self, parts=parts).with_facts(split=split, seed=seed)

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return tensors and text for a safetensors file: 11 bytes an image (13 with more than 32,767 classes)."""
        small = torch.int16 if len(self.classes) < 1 << 15 else torch.int32
        text = {"classes": list(self.classes), "published": self.published, **self.facts}
        return (
            {"ids": self.ids, "labels": self.labels.to(small), "parts": self.parts},
            {"version": str(_VERSION), "facts": json.dumps(text, ensure_ascii=False)},
        )

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], where: str) -> Manifest:
        """Read what `to_tensors` returned. Raises an `OcheError` that names ``where`` for anything else."""
        try:
            facts = json.loads(metadata["facts"])
            ids, labels, parts = (tensors[name] for name in ("ids", "labels", "parts"))
            classes, published = tuple(map(str, facts.pop("classes"))), bool(facts.pop("published"))
            labels = labels.to(torch.int64)
            sound = (
                ids.dtype == torch.int64 and parts.dtype == torch.uint8 and ids.shape == labels.shape == parts.shape
                and ids.dim() == 1 and len(ids) and int(labels.min()) >= 0 and int(labels.max()) < len(classes)
                and int(parts.max()) <= UNUSED
            )  # fmt: skip
        except (KeyError, ValueError, TypeError, AttributeError):
            sound = False
        if not sound:
            raise OcheError(
                f"{where} is no manifest of images; restore it, or remove it to let the parts of the data be drawn by position"
            )
        return cls(ids, labels, parts, classes, published, facts)


def match(wanted: Tensor, found: Tensor) -> Tensor:
    """Return for each of the ids ``wanted`` (M,) its row in ``found`` (N,), or −1. Of copies, the k-th finds the k-th."""
    w, wanted_order = wanted.sort(stable=True)
    f, found_order = found.sort(stable=True)
    if not len(f):
        return torch.full((len(wanted),), -1)
    copy = torch.arange(len(w)) - torch.searchsorted(w, w)
    at = torch.searchsorted(f, w) + copy
    inside = at < len(f)
    at = at.clamp_max(len(f) - 1)
    rows = torch.empty(len(wanted), dtype=torch.int64)
    rows[wanted_order] = torch.where(inside & (f[at] == w), found_order[at], -1)
    return rows


def is_same_data(manifest: Manifest, ids: Tensor) -> bool:
    """Tell whether images ``ids`` (N,) are those of ``manifest``: most of either are in the other."""
    known = int((match(manifest.ids, ids) >= 0).sum())
    return 2 * known >= max(len(ids), len(manifest.ids))
