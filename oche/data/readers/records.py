"""The result of a reader, and the checks that readers share: which part is which, labels, image sizes, damaged images."""

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

USUAL = 64  # pixels a side, at most, for images of differing sizes
_TRAIN = ("train", "training")
_TEST = ("test", "testing")
_VAL = ("val", "valid", "validation")


@dataclass(frozen=True)
class RawDataset:
    """The result of a reader. ``test`` is None if there is no published test part."""

    name: str
    train: Split
    test: Split | None
    classes: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class LabelledImages:
    """Encoded images with their labels. ``train`` and ``test`` are rows (int64) of ``items`` and of ``labels`` (N,)."""

    name: str
    items: EncodedImages
    labels: Tensor
    train: Tensor
    test: Tensor | None
    classes: tuple[str, ...]
    note: str = ""

    def parts(self, size: tuple[int, int] | None, show: bool, skip: bool, lossy: bool = False) -> RawDataset:
        """Return streamed splits, after a check of every header.

        ``skip``: leave out images that cannot be decoded, instead of refusing them. ``lossy``: note if images are JPEG.
        """
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
    """Tell whether ``name`` is a usual name for a part of a data set, such as train or val."""
    return name.lower() in _TRAIN + _TEST + _VAL


def choose_splits(found: Iterable[str], where: str) -> tuple[str, str | None, str]:
    """Return the part to train on, the part to test on (test before val), and a note about the other parts of ``where``.

    Raises `OcheError` if there is no training part.
    """
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
    """Return the labels as class numbers (N,) int64, and the class names.

    ``values`` (N,) are integers or strings; ``train`` and ``test`` are rows of it. ``names`` are the class names, if
    known; otherwise the distinct training values in order are the classes. ``row(i)`` is the name of row i in errors.
    Rows in neither part get class 0.

    Raises `OcheError` for missing, unknown or odd labels, for fewer than two classes, and for a class without training
    images.
    """
    listed = values.tolist()
    if (odd := next((i for i, v in enumerate(listed) if not isinstance(v, _LABELS)), None)) is not None:
        raise OcheError(f"{row(odd)} has a label of type {type(listed[odd]).__name__}; give integers or strings")
    known = _class_numbers(listed, train, names)
    codes = torch.zeros(len(listed), dtype=torch.int64)
    for part in (train, test):
        for i in () if part is None else part.tolist():
            if listed[i] not in known:
                raise _label_error(listed[i], row(i), names, known)
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


def _class_numbers(listed: list, train: np.ndarray, names: tuple[str, ...] | None) -> dict:
    """Return the class number of each label value."""
    if not len(train):
        return {}
    first = listed[int(train[0])]
    if names is None:
        seen = {listed[i] for i in train.tolist()}
        return {v: k for k, v in enumerate(sorted(seen - {None}, key=lambda v: (isinstance(v, str), v)))}
    return {name if isinstance(first, str) else k: k for k, name in enumerate(names)}


def _label_error(value: object, row: str, names: tuple[str, ...] | None, known: dict) -> OcheError:
    """Return the error for a label ``value`` that is missing or unknown."""
    if value is None:
        return OcheError(f"{row} has no label; give it one or remove it")
    if names is None:
        return OcheError(
            f"{row} has label {value!r}, which no training image has; training has {_first_values([*known])}"
        )
    return OcheError(f"{row} has label {value!r}; the {len(names)} classes allow {_first_values([*known])}")


def _first_values(values: list) -> str:
    """Return ``values`` as text, or the first and the last of more than eight."""
    return f"{values[0]} to {values[-1]}" if len(values) > 8 else ", ".join(map(str, values))


def _shape(items: EncodedImages, found: list[Header], size: tuple[int, int] | None) -> tuple[tuple[int, int, int], str]:
    """Return (C, H, W) of all images, and a note if that changes them."""
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
    note = f"images of differing sizes were scaled and cut to {side}x{side}; size chooses another"
    return (channels, side, side), note


# --- leaving out damaged images, if the user asks for that instead of an error ----------------------------------------


class Subset:
    """The ``items`` at ``rows``, numbered anew from 0."""

    def __init__(self, items: EncodedImages, rows: list[int]) -> None:
        self.items, self.rows = items, rows

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, i: int) -> Encoded:
        return self.items.read(self.rows[i])

    def name(self, i: int) -> str:
        return self.items.name(self.rows[i])


def without_damaged(table: LabelledImages, show: bool) -> LabelledImages:
    """Return ``table`` without the images that cannot be decoded, with a note about them.

    All images are decoded once for this.

    Raises `OcheError` if a class then has no training image, or if no test image is left.
    """
    found, errors = inspect_all(
        len(table.items), lambda i: decode_fully(table.items, i), "looking for damaged images", show
    )
    if not errors:
        return table
    sound = torch.tensor([size is not None for size in found])
    new_number = sound.cumsum(0) - 1
    train = _sound_rows(table.train, sound, new_number)
    labels = table.labels[sound]
    test = None if table.test is None else _sound_rows(table.test, sound, new_number)
    empty = torch.bincount(labels[train], minlength=len(table.classes)).eq(0).nonzero().flatten().tolist()
    if empty:
        of_class = table.train[table.labels[table.train] == empty[0]]
        reason = _first_error(of_class, found, errors)
        raise OcheError(f"class {table.classes[empty[0]]!r} has no training image that can be read; {reason}")
    if table.test is not None and test is not None and not len(test):
        raise OcheError(f"no test image can be read; {_first_error(table.test, found, errors)}")
    note = f"{len(errors)} of {len(found)} images were left out, since they cannot be read: {_names(errors)}"
    return replace(
        table, items=Subset(table.items, sound.nonzero().flatten().tolist()), labels=labels, train=train, test=test,
        note="; ".join(filter(None, (table.note, note))),
    )  # fmt: skip


def _sound_rows(rows: Tensor, sound: Tensor, new_number: Tensor) -> Tensor:
    """Return the new numbers of the ``rows`` whose image is ``sound``."""
    return new_number[rows[sound[rows]]]


def _first_error(rows: Tensor, found: Sequence[object], errors: list[OcheError]) -> OcheError:
    """Return the error of the first of ``rows`` that has one.

    ``errors`` are those of the images whose entry in ``found`` is None.
    """
    damaged = dict(zip((i for i, size in enumerate(found) if size is None), errors, strict=True))
    return next((damaged[i] for i in rows.tolist() if i in damaged), errors[0])


def _names(errors: list[OcheError]) -> str:
    """Return the name of the first damaged image, "and N more"."""
    more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
    return str(errors[0]).partition(" cannot be read")[0] + more
