"""The result of a reader, and the checks that readers share: which part is which, labels, image sizes, damaged images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from oche.core.errors import OcheError, one_line, plural
from oche.data.dataset import Split
from oche.data.readers.decode import Encoded, EncodedImages, Header, decode_fully
from oche.data.readers.labels import label_notes
from oche.data.readers.measuring import choose_measured, measured_classes
from oche.data.registry import SMALLEST
from oche.data.streaming import Streamed, inspect_all, read_headers

USUAL = 64  # pixels a side, at most, for images of differing sizes
ROLES = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
"""the usual names of parts, in lower case"""


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
        whole = Streamed(self.items, self.labels, shape, kinds=[h.kind for h in found])
        test = None if self.test is None else whole.subset(self.test)
        note = "; ".join(
            filter(None, (jpeg, self.note, resized, *oddities(self.items, found), *label_notes(self.classes)))
        )
        return RawDataset(self.name, whole.subset(self.train), test, self.classes, note)


def is_split_name(name: str) -> bool:
    """Tell whether ``name`` is a usual name for a part of a data set, such as train or val."""
    return any(name.lower() in names for names in ROLES.values())


def choose_splits(found: Iterable[str] | Mapping[str, int], where: str) -> tuple[str, str | None, str]:
    """Return the part to train on, the part to test on (test before val), and a note about the other parts of ``where``.

    ``found`` may map the names to numbers of images, which the note then tells. Of data to be measured the first result is
    the part to measure, and there is no second. Raises `OcheError` if there is no training part.
    """
    names = [*found]
    if measured_classes() is not None:
        part, note = choose_measured(names, ROLES)
        return part, None, note
    known = {name.lower(): name for name in reversed(names)}  # of train and Train the first is taken
    train = next((known[n] for n in ROLES["train"] if n in known), None)
    if train is None:
        raise OcheError(f"{where} has {', '.join(sorted(names))} but no train part; name one part 'train'")
    test = next((known[n] for n in ROLES["test"] + ROLES["val"] if n in known), None)
    rest = sorted(name for name in names if name not in (train, test))
    counts = found if isinstance(found, Mapping) else {}
    told = ", ".join(f"{name} ({count_images(counts[name])})" if name in counts else name for name in rest)
    return train, test, f"not used: {told}" if rest else ""


def count_images(count: int) -> str:
    """Return "1 image", "2 images" ..."""
    return plural(count, "image")


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
    note = f"images of differing sizes were scaled and cut to {side}x{side} (size chooses another)"
    return (channels, side, side), note


def oddities(items: EncodedImages, found: list[Header]) -> list[str]:
    """Return a line for each kind of image of which less is used than there is, or more is made."""
    kinds = {
        "have transparency, which is dropped": [i for i, h in enumerate(found) if h.transparent],
        "hold several pictures, of which the first is used": [i for i, h in enumerate(found) if h.frames],
        "have a band that is neither colour nor transparency, which is dropped": [
            i for i, h in enumerate(found) if h.spare
        ],
        f"are enlarged from less than {SMALLEST} pixels a side": [
            i for i, h in enumerate(found) if min(h.size) < SMALLEST
        ],
    }
    return [
        f"{len(rows):,} of {count_images(len(found))} {what}: {_short(items.name(rows[0]))}"
        f"{f' and {len(rows) - 1:,} more' if len(rows) > 1 else ''}"
        for what, rows in kinds.items()
        if rows
    ]


def _short(name: str) -> str:
    """Return the last two parts of the path in the name of an image."""
    return one_line("/".join(name.split("/")[-2:]))


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
