"""Damaged images left out of a data set, where the user asks for that instead of an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.data.readers.decode import Encoded, Items, load_whole
from oche.data.streaming import survey

if TYPE_CHECKING:
    from oche.data.readers.records import Table


class Some:
    """Those of ``items`` whose numbers are ``rows``, renumbered."""

    def __init__(self, items: Items, rows: list[int]) -> None:
        self.items, self.rows = items, rows

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, i: int) -> Encoded:
        return self.items.read(self.rows[i])

    def name(self, i: int) -> str:
        return self.items.name(self.rows[i])


def without_damaged(table: Table, show: bool) -> Table:
    """``table`` without the images that cannot be decoded, of which its note tells. All images are decoded once for it.

    Raises `OcheError` where a class then has no training image, or none is left to test with.
    """
    found, errors = survey(len(table.items), lambda i: load_whole(table.items, i), "looking for damaged images", show)
    if not errors:
        return table
    sound = torch.tensor([size is not None for size in found])
    place = sound.cumsum(0) - 1
    train = _kept(table.train, sound, place)
    labels = table.labels[sound]
    test = None if table.test is None else _kept(table.test, sound, place)
    empty = torch.bincount(labels[train], minlength=len(table.classes)).eq(0).nonzero().flatten().tolist()
    if empty:
        own = table.train[table.labels[table.train] == empty[0]]
        raise OcheError(
            f"class {table.classes[empty[0]]!r} has no training image that can be read; {_of(own, found, errors)}"
        )
    if table.test is not None and test is not None and not len(test):
        raise OcheError(f"no test image can be read; {_of(table.test, found, errors)}")
    note = f"{len(errors)} of {len(found)} images were left out, since they cannot be read: {_first(errors)}"
    return replace(
        table, items=Some(table.items, sound.nonzero().flatten().tolist()), labels=labels, train=train, test=test,
        note="; ".join(filter(None, (table.note, note))),
    )  # fmt: skip


def _kept(rows: Tensor, sound: Tensor, place: Tensor) -> Tensor:
    return place[rows[sound[rows]]]


def _of(rows: Tensor, found: Sequence[object], errors: list[OcheError]) -> OcheError:
    """The error of the first of ``rows`` that has one; ``errors`` are those of the images of which nothing was ``found``."""
    damaged = dict(zip((i for i, size in enumerate(found) if size is None), errors, strict=True))
    return next((damaged[i] for i in rows.tolist() if i in damaged), errors[0])


def _first(errors: list[OcheError]) -> str:
    more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
    return str(errors[0]).partition(" cannot be read")[0] + more
