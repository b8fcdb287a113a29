"""The forms of Python data: a pair of arrays, a map-style data set, a loader of one, a table of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from oche.core.arguments import short
from oche.core.errors import OcheError
from oche.data.dataset import Dataset, Split
from oche.data.readers.parquet_npz import IMAGE, LABEL
from oche.data.readers.python_items import as_array, as_labels, label_of, read_items

ACCEPTED = (
    "a name or path, a map-style Dataset of (image, label), a pair (images, labels) of arrays or tensors, a datasets.Dataset, "
    "a DataLoader of one of these, or a dict of train, val and test"
)
T_co = TypeVar("T_co", covariant=True)


class MapStyle(Protocol[T_co]):
    """A data set with items by number, such as a `torch.utils.data.Dataset` of (image, label), or a `datasets.Dataset`."""

    def __getitem__(self, index: int, /) -> T_co: ...
    def __len__(self) -> int: ...


if TYPE_CHECKING:
    ArrayLike = np.ndarray | torch.Tensor | Sequence[Any]
    OnePart = MapStyle[Any] | DataLoader[Any] | tuple[ArrayLike, ArrayLike]
    Data = str | PathLike[str] | Dataset | OnePart | Mapping[str, OnePart]

_LEAVE_NONE_OUT = (SequentialSampler, RandomSampler, WeightedRandomSampler, DistributedSampler)


@dataclass(frozen=True)
class Part:
    """One part of the data: images as handed over, labels (N,) as integers or text, and the names of all classes if known.

    ``layout`` None: ``images`` are an array whose axis of channels nobody named.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] | None
    layout: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SplitItems:
    """A split of a `Dataset` that is loaded already, item by item."""

    split: Split
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        images, labels = self.split.gather(torch.tensor([i]))
        return images[0].permute(1, 2, 0).cpu().numpy(), int(labels[0])


@dataclass(frozen=True)
class _TableRows:
    """The rows of a `datasets.Dataset`, with its columns of images and labels."""

    table: Any
    image: str
    label: str

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i: int) -> Any:
        row = self.table[i]
        known = isinstance(row, Mapping) and {self.image, self.label} <= {*row}
        return (row[self.image], row[self.label]) if known else row  # a transform of its own may rename columns


def read_part(
    data: Any, where: str, memory: int, *, size: tuple[int, int] | None, layout: str | None, show: bool = False
) -> Part:
    """Read one part of the data. ``where`` names it in errors. Raises `OcheError` if it has none of the forms in `ACCEPTED`.

    ``size`` (H, W): scale images of items to it. ``layout``: NHWC or NCHW, the axes of arrays. ``memory``: bytes for images.
    """
    data, notes = _out_of_loader(data)
    if (pair := _pair(data, where)) is not None:
        images, labels = as_array(pair[0], f"the array of images of {where}"), _rows(pair[1], where)
        _check_lengths(where, images, labels)
        coded, note = as_labels(labels, where)
        return Part(images, coded, None, layout, (*notes, *filter(None, (note,))))
    items, classes = _items(data, where)
    found = read_items(items, where, memory, size=size, layout=layout, show=show)
    coded, note = as_labels(found.labels, where)
    return Part(found.images, coded, classes, "NHWC", (*notes, *found.notes, *filter(None, (note,))))


def is_table(data: Any) -> bool:
    """Whether ``data`` looks like a `datasets.Dataset`."""
    return isinstance(_features(data), Mapping) and hasattr(type(data), "__len__")


def _features(data: Any) -> Any:
    return getattr(data, "features", None)


def hides_labels(data: Any) -> bool:
    """Whether ``data`` is a table all of whose labels are -1, as those of a competition's test part are."""
    if not is_table(data) or not len(data):
        return False
    _, label = _columns(data, "the table")
    return bool((np.asarray(data[label][:]) == -1).all())


# --- loaders ----------------------------------------------------------------------------------------------------------


def _out_of_loader(data: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the data set inside a `DataLoader`, with a note; anything else as it is."""
    if not isinstance(data, DataLoader):
        return data, ()
    inner, sampler = data.dataset, data.sampler
    if isinstance(inner, IterableDataset):
        raise OcheError(
            "the DataLoader is over an IterableDataset, which has neither a length nor items by number; hand over a map-style "
            "Dataset, or arrays"
        )
    for part in (data.batch_sampler, sampler):
        if type(part) not in (BatchSampler, SubsetRandomSampler, type(None), *_LEAVE_NONE_OUT):
            raise OcheError(
                f"the DataLoader has a sampler of its own, {type(part).__name__}, which may leave images out; hand over its "
                "dataset, or a torch.utils.data.Subset of it"
            )
    said = "of the DataLoader its dataset is used; batches and order are oche's own"
    if isinstance(sampler, SubsetRandomSampler):
        chosen = sorted(int(i) for i in sampler.indices)
        return Subset(inner, chosen), (f"{said}; its sampler chose {len(chosen)} items",)
    return inner, (said,)


# --- pairs ------------------------------------------------------------------------------------------------------------


def _pair(data: Any, where: str) -> tuple[Any, Any] | None:
    """Return (images, labels) if ``data`` is a pair of arrays or tensors, or a `TensorDataset` of two."""
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        data = data.tensors
    elif not (isinstance(data, tuple | list) and len(data) == 2):
        return None
    dimensions = _dimensions(data[0])
    if dimensions in (1, 2) and _dimensions(data[1]) == 1:
        raise OcheError(
            f"{where} has images of shape {tuple(data[0].shape)}; give (N, H, W), (N, H, W, C) or (N, C, H, W): reshape rows of "
            "pixels first"
        )
    return (data[0], data[1]) if dimensions >= 3 else None


def _dimensions(value: Any) -> int:
    shape = getattr(value, "shape", None)
    return len(shape) if isinstance(shape, tuple) else 0


def _rows(labels: Any, where: str) -> list[Any]:
    """Return the labels of a pair as plain values. Raises `OcheError` if they are no collection."""
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu()
        labels = labels.float() if labels.dtype == torch.bfloat16 else labels
        labels = labels.numpy()
    elif isinstance(labels, str | bytes | Mapping) or not hasattr(labels, "__len__"):
        raise OcheError(
            f"the labels of {where} are {short(labels)}; give an array, tensor or list with one for each image"
        )
    elif not isinstance(labels, list | tuple):
        labels = np.asarray(labels)  # also of a column of pandas
    if getattr(labels, "ndim", 1) == 0:
        raise OcheError(f"the labels of {where} are a single value; give one for each image")
    return [label_of(label, f"{where}[{i}]") for i, label in enumerate(labels)]


def _check_lengths(where: str, images: Any, labels: Any) -> None:
    if len(images) != len(labels):
        raise OcheError(f"{where} has {len(images)} images and {len(labels)} labels; give one label for each image")
    if not len(images):
        raise OcheError(f"{where} has no images; give some")


# --- items ------------------------------------------------------------------------------------------------------------


def _items(data: Any, where: str) -> tuple[Any, tuple[str, ...] | None]:
    """Return what gives (image, label) by number, and the names of all classes if there are any. Raises `OcheError`."""
    kind = type(data)
    if isinstance(data, SplitItems):
        return data, data.classes
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], list | tuple) and hasattr(data[1], "__len__"):
        labels = _rows(data[1], where)
        _check_lengths(where, data[0], labels)
        return [*zip(data[0], labels, strict=True)], None
    by_number = hasattr(kind, "__getitem__")
    if isinstance(data, IterableDataset) or (not by_number and kind.__name__ == "IterableDataset"):
        raise OcheError(
            f"{short(data)} can only be read from its start to its end; hand over a map-style Dataset, with __len__ and "
            "__getitem__, or arrays"
        )
    if is_table(data):
        image, label = _columns(data, where)
        names = getattr(_features(data)[label], "names", None)
        return _TableRows(data, image, label), None if names is None else tuple(map(str, names))
    if _dimensions(data) >= 2:
        raise OcheError(f"{where} is {short(data)} without labels; hand over a pair (images, labels)")
    if not by_number or isinstance(data, tuple | bytes | bytearray | memoryview | Mapping | range | type):
        raise OcheError(f"data may be {ACCEPTED}; found {short(data)}")
    if not hasattr(kind, "__len__"):
        raise OcheError(f"{short(data)} has items by number and no length; give it __len__")
    return data, _listed_classes(data)


def _columns(table: Any, where: str) -> tuple[str, str]:
    """Return the columns of images and of labels, by the types of the features first and by their names otherwise."""
    return (
        _column(table.features, "Image", (*IMAGE, "pixel_values"), where),
        _column(table.features, "ClassLabel", LABEL, where),
    )


def _column(features: Mapping[str, Any], kind: str, usual: Sequence[str], where: str) -> str:
    typed = [name for name, feature in features.items() if type(feature).__name__ == kind]
    named = {name.lower(): name for name in reversed(typed or [*features])}
    if (found := next((named[word] for word in usual if word in named), None)) is not None:
        return found
    if not typed:
        columns = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
        raise OcheError(f"{where} has columns {columns} and none of type {kind}; name one {usual[0]}")
    return typed[0]


def _listed_classes(data: Any) -> tuple[str, ...] | None:
    """Return the list ``classes`` of a data set, as torchvision's have it, through subsets and joined sets; None without."""
    while True:
        found = getattr(data, "classes", None)
        if isinstance(found, list | tuple) and found and all(isinstance(name, str) for name in found):
            return tuple(found)
        if isinstance(data, Subset):
            data = data.dataset
        elif isinstance(data, ConcatDataset):
            lists = {_listed_classes(inner) for inner in data.datasets}
            return lists.pop() if len(lists) == 1 else None
        else:
            return None
