"""What every reader returns, and the checks they share: which part is which, what the labels mean, how large images are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.data.dataset import Split
from oche.data.readers.decode import Encoded, EncodedImages, Header, decode_fully
from oche.data.registry import SMALLEST
from oche.data.streaming import Streamed, inspect_all, read_headers

USUAL = 64  # pixels a side for images of differing sizes
_TRAIN = ("train", "training")
_TEST = ("test", "testing")
_VAL = ("val", "valid", "validation")


@dataclass(frozen=True)
class RawDataset:
    """What a reader found; ``test`` is None where there is no published test part."""

    name: str
    train: Split
    test: Split | None
    classes: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class LabelledImages:
    """Encoded images with their labels: ``train`` and ``test`` are rows (int64) of ``items`` and ``labels`` (N,)."""

    name: str
    items: EncodedImages
    labels: Tensor
    train: Tensor
    test: Tensor | None
    classes: tuple[str, ...]
    note: str = ""

    def parts(self, size: tuple[int, int] | None, show: bool, skip: bool, lossy: bool = False) -> RawDataset:
        """Streamed splits, every header checked. ``skip``: whether to leave out images that cannot be decoded, rather than
        refuse them. ``lossy``: whether to note that JPEG images are."""
        if skip:
            return without_damaged(self, show).parts(size, show, False, lossy)
        found = read_headers(self.items, show)
        shape, resized = _shape(self.items, found, size)
        jpeg = "images are stored as JPEG, which is lossy" if lossy and any(h.format == "JPEG" for h in found) else ""
        whole = Streamed(self.items, self.labels, shape)
        test = None if self.test is None else whole.subset(self.test)
        note = "; ".join(filter(None, (jpeg, self.note, resized)))
        return RawDataset(self.name, whole.subset(self.train), test, self.classes, note)


def is_split_name(name: str) -> bool:
    """Whether ``name`` is what people call a part of a data set."""
    return name.lower() in _TRAIN + _TEST + _VAL


def choose_splits(found: Iterable[str], where: str) -> tuple[str, str | None, str]:
    """Of the parts that ``where`` has: the one to train on, the one to test on (test before val), and a note on the rest."""
    known = {name.lower(): name for name in found}
    train = next((known.pop(n) for n in _TRAIN if n in known), None)
    if train is None:
        raise OcheError(f"{where} has {', '.join(sorted(known.values()))} but no train part; name one part 'train'")
    test = next((known.pop(n) for n in _TEST + _VAL if n in known), None)
    return train, test, f"not used: {', '.join(sorted(known.values()))}" if known else ""


_LABELS = (str, int, float, type(None))


def encode_labels(
    values: np.ndarray,
    train: np.ndarray,
    test: np.ndarray | None,
    names: tuple[str, ...] | None,
    row: Callable[[int], str],
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as class numbers (N,) int64, and the class names.

    ``values`` (N,) integers or strings; ``train`` and ``test`` rows of it; ``names`` of the classes where they are known,
    else the distinct training values in order stand for them. ``row(i)`` is how an error names row i. Rows in neither
    part get class 0.
    """
    listed = values.tolist()
    if (odd := next((i for i, v in enumerate(listed) if not isinstance(v, _LABELS)), None)) is not None:
        raise OcheError(f"{row(odd)} has a label of type {type(listed[odd]).__name__}; give integers or strings")
    known = _known(listed, train, names)
    codes = torch.zeros(len(listed), dtype=torch.int64)
    for part in (train, test):
        for i in () if part is None else part.tolist():
            if listed[i] not in known:
                raise _unknown(listed[i], row(i), names, known)
            codes[i] = known[listed[i]]
    classes = tuple(str(v) for v in known) if names is None else names
    if len(classes) < 2:
        raise OcheError(
            f"{row(int(train[0]))} and all others are of one class, {', '.join(classes)!r}; give at least 2 classes"
        )
    empty = torch.bincount(codes[torch.from_numpy(train)], minlength=len(classes)).eq(0).nonzero().flatten().tolist()
    if empty:
        raise OcheError(f"class {classes[empty[0]]!r} has no training image ({row(int(train[0]))} and following)")
    return codes, classes


def _known(listed: list, train: np.ndarray, names: tuple[str, ...] | None) -> dict:
    """Label value → class number."""
    if not len(train):
        return {}
    first = listed[int(train[0])]
    if names is None:
        seen = {listed[i] for i in train.tolist()}
        return {v: k for k, v in enumerate(sorted(seen - {None}, key=lambda v: (isinstance(v, str), v)))}
    return {name if isinstance(first, str) else k: k for k, name in enumerate(names)}


def _unknown(value: object, row: str, names: tuple[str, ...] | None, known: dict) -> OcheError:
    if value is None:
        return OcheError(f"{row} has no label; give it one or remove it")
    if names is None:
        return OcheError(f"{row} has label {value!r}, which no training image has; training has {_few([*known])}")
    return OcheError(f"{row} has label {value!r}; the {len(names)} classes allow {_few([*known])}")


def _few(values: list) -> str:
    return f"{values[0]} to {values[-1]}" if len(values) > 8 else ", ".join(map(str, values))


def _shape(items: EncodedImages, found: list[Header], size: tuple[int, int] | None) -> tuple[tuple[int, int, int], str]:
    """(C, H, W) that all images will have, and a note where that changes them."""
    channels = 1 if all(h.grey for h in found) else 3
    sizes = {h.size for h in found}
    if size is not None:
        return (channels, *size), ""
    for i, h in enumerate(found):
        if min(h.size) < SMALLEST:
            raise OcheError(
                f"{items.name(i)} has {h.size[1]}x{h.size[0]} pixels; images need {SMALLEST} a side: remove it, or "
                f"give a size to scale all to"
            )
    if len(sizes) == 1:
        return (channels, *sizes.pop()), ""
    side = int(min(USUAL, median(min(h.size) for h in found)))
    return (
        channels,
        side,
        side,
    ), f"images of differing sizes were scaled and cut to {side}x{side}; size chooses another"


# --- damaged images, left out where the user asks for that instead of an error -------------------------------------


class Subset:
    """Those of ``items`` whose numbers are ``rows``, renumbered."""

    def __init__(self, items: EncodedImages, rows: list[int]) -> None:
        self.items, self.rows = items, rows

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, i: int) -> Encoded:
        return self.items.read(self.rows[i])

    def name(self, i: int) -> str:
        return self.items.name(self.rows[i])


def without_damaged(table: LabelledImages, show: bool) -> LabelledImages:
    """``table`` without the images that cannot be decoded, of which its note tells. All images are decoded once for it.

    Raises `OcheError` where a class then has no training image, or none is left to test with.
    """
    found, errors = inspect_all(
        len(table.items), lambda i: decode_fully(table.items, i), "looking for damaged images", show
    )
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
        table, items=Subset(table.items, sound.nonzero().flatten().tolist()), labels=labels, train=train, test=test,
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
