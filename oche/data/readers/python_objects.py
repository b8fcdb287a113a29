"""Data handed over as Python objects, written as one npz file.

An object is read once. From there on it is data like any other: the same rules for axes, pixel values and labels hold, and
a run on it resumes, trains, evaluates and exports without the object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

from oche.core.arguments import short
from oche.core.atomic_files import refused
from oche.core.errors import OcheError
from oche.core.memory import free_memory_or_estimate
from oche.data.dataset import Dataset
from oche.data.readers.python_forms import Part, SplitItems, hides_labels, read_part
from oche.data.readers.records import choose_splits, is_split_name

_PUBLISHED = {
    "MNIST": "mnist",
    "FashionMNIST": "fashion-mnist",
    "CIFAR10": "cifar10",
    "CIFAR100": "cifar100",
    "SVHN": "svhn",
}


def is_python_object(data: object) -> bool:
    """Whether ``data`` is neither a name nor a path."""
    return not isinstance(data, str | PathLike)


@contextmanager
def as_file(
    data: Any,
    *,
    size: int | tuple[int, int] | None = None,
    layout: str | None = None,
    progress: bool = False,
    whole: bool = False,
) -> Iterator[str | Path]:
    """Yield the path of an npz file with the content of ``data``; see `oche.data.readers.python_forms` for its forms.

    Names and paths are yielded as they are. The file is removed at the end. ``size``: side in pixels, or (H, W), to which
    images of items are scaled and cut. ``layout``: NHWC or NCHW, the axes of arrays. ``whole``: the images are to be
    measured, so a dict may lack train.
    Raises `OcheError`.
    """
    if not is_python_object(data):
        place = fspath(data)
        if not isinstance(place, str) or not place or "\0" in place:
            raise OcheError(f"data is {short(data)}, which is no name or path")
        yield Path(place) if isinstance(data, Path) else place
        return
    parts, note = _parts(data)
    if whole:
        parts = {"train": next(parts[name] for name in ("test", "val", "train") if name in parts)}
    arrays = _arrays(parts, (size, size) if isinstance(size, int) else size, layout, progress, note)
    with ExitStack() as stack:
        path = Path("the temporary folder") / f"{name_of(data)}.npz"
        try:
            path = Path(stack.enter_context(TemporaryDirectory(prefix="oche-data-"))) / path.name
            with path.open("wb") as file:
                np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        except OSError as error:
            raise refused(path, error) from error
        del arrays
        try:
            yield path
        except OcheError as error:  # of a reader, which names the file
            said = str(error).replace(f"{path}: ", "data: ").replace(str(path), "data")
            error.args = (re.sub(r"--(layout|size|holdout|limit) (\w+)", r"\1=\2", said), *error.args[1:])
            raise


def name_of(data: Any) -> str:
    """Return a name for ``data``, of letters, digits and dashes: that of its class or, for a published set, of that set."""
    if isinstance(data, Mapping):
        return name_of(next(iter(data.values()))) if data else "data"
    if isinstance(data, Subset | DataLoader):
        return name_of(data.dataset)
    if isinstance(data, ConcatDataset):
        return name_of(data.datasets[0])
    if isinstance(data, tuple | list | np.ndarray | torch.Tensor | TensorDataset):
        return "arrays"
    given = data.name if isinstance(data, Dataset) else getattr(getattr(data, "info", None), "dataset_name", None)
    name = given if isinstance(given, str) and given else type(data).__name__
    return _PUBLISHED.get(name) or re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "data"


# --- parts ------------------------------------------------------------------------------------------------------------


def _parts(data: Any) -> tuple[dict[str, Any], str]:
    """Return the parts of ``data`` by the names train, val and test, and a note about parts without labels.

    Raises `OcheError` for parts of other names.
    """
    if isinstance(data, Dataset):
        held = {} if data.test is None else {"test": SplitItems(data.test, data.classes)}
        return {"train": SplitItems(data.train, data.classes), **held}, data.note
    if not isinstance(data, Mapping):
        return {"train": data}, ""
    odd = [name for name in data if not (isinstance(name, str) and is_split_name(name))]
    if odd or not data:
        found = ", ".join(map(repr, [*data][:8])) if data else "nothing"
        raise OcheError(f"the dict of data has {found}; name its parts train, val and test")
    hidden = [name for name, part in data.items() if hides_labels(part)]
    seen = {_canonical(name): part for name, part in data.items() if name not in hidden}
    return seen, f"not used for want of labels: {', '.join(hidden)}" if hidden else ""


def _canonical(name: str) -> str:
    return {"training": "train", "testing": "test", "valid": "val", "validation": "val"}.get(name.lower(), name.lower())


def _arrays(
    parts: dict[str, Any], size: tuple[int, int] | None, layout: str | None, show: bool, note: str
) -> dict[str, np.ndarray]:
    """Return the arrays of the npz file, as `oche.data.readers.parquet_npz.read_npz` reads them."""
    train, test, unused = choose_splits([*parts], "the dict of data")
    memory = free_memory_or_estimate() // 2
    read = [read_part(parts[train], train if test else "data", memory, size=size, layout=layout, show=show)]
    if test is not None:
        left = memory - read[0].images.nbytes
        read.append(read_part(parts[test], test, left, size=size or _scaled_to(read[0]), layout=layout, show=show))
        if read[0].layout != read[1].layout:
            raise OcheError(f"{train} is an array and {test} are items, or the reverse; hand both over in one form")
    classes = _classes(read)
    names = ("x", "y") if test is None else ("x_train", "y_train", "x_test", "y_test")
    values = [
        array for part in read for array in (part.images, part.labels if classes is None else _coded(part, read[0]))
    ]
    arrays = dict(zip(names, values, strict=True))
    said = "; ".join(dict.fromkeys(filter(None, (note, *(n for part in read for n in part.notes), unused))))
    texts = {"classes": classes, "layout": read[0].layout, "note": said or None}
    return arrays | {key: np.array(value) for key, value in texts.items() if value is not None}


def _scaled_to(part: Part) -> tuple[int, int] | None:
    """Return the (H, W) to which the images of ``part`` were scaled, so that the next part is scaled to it too; else None."""
    scaled = any(note.startswith("images of differing sizes") for note in part.notes)
    return (part.images.shape[1], part.images.shape[2]) if scaled else None


def _classes(parts: Sequence[Part]) -> tuple[str, ...] | None:
    """Return the names of the classes that occur in training, in the order of the object's list; None if it has no list.

    Raises `OcheError` if the test part has a class that training lacks.
    """
    names = parts[0].classes
    if names is None or any(
        p.labels.dtype.kind != "i" or p.labels.min() < 0 or p.labels.max() >= len(names) for p in parts
    ):
        return None
    names = tuple(f"{name} ({k})" if names.count(name) > 1 else name for k, name in enumerate(names))
    seen = np.unique(parts[0].labels).tolist()
    lost = [int(k) for part in parts[1:] for k in np.unique(part.labels) if k not in seen]
    if lost:
        raise OcheError(
            f"the test part has the class {names[lost[0]]!r}, of which training has no image; leave it out, or add some"
        )
    return tuple(names[k] for k in seen)


def _coded(part: Part, train: Part) -> np.ndarray:
    """Return the labels (N,) of ``part``, numbered anew from 0 by the classes that occur in ``train``."""
    return np.searchsorted(np.unique(train.labels), part.labels)
