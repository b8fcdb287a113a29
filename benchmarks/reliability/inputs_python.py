"""Objects that Python hands over as data: images and labels of all kinds, in sets, loaders, tables and dicts, mangled."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from judge import Case
from PIL import Image
from sound import Sound
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

import oche

TAKEN = "split=0.999999999"  # in the error a search ends with once its data are accepted
_KINDS = (np.uint8, np.uint16, np.int32, np.int64, np.float16, np.float32, np.float64, bool, complex, object)
_SHAPES = (
    (),
    (0,),
    (3,),
    (12, 12),
    (12, 12, 3),
    (3, 12, 12),
    (12, 12, 12),
    (3, 12, 3),
    (1, 500),
    (2, 2, 3),
    (12, 12, 2),
    (9, 11, 1),
)
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F")
_ODD = (
    None, float("nan"), float("inf"), -1, 1.5, 2**70, "", "cat", b"cat", (), [], {}, {"image": 1}, object(), np.nan, np.array(3),
    torch.tensor(2), [0, 1], [0.5, 0.5], torch.zeros(0), Image.new("L", (8, 8)), Path("a.png"), print, int,
)  # fmt: skip


class Items(Dataset):
    """Items by number; exceptions among them are raised."""

    def __init__(self, items: list[Any], classes: Any = None) -> None:
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        if isinstance(self.items[i], Exception):
            raise self.items[i]
        return self.items[i]


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        yield from ()


def objects(rng: Random, sound: Sound, at: Path) -> Case:
    """One of the calls that take data, with an object that is sound, or wrong in one or more places."""
    data = _data(rng, depth=2)
    layout = rng.choice((None, None, "NHWC", "NCHW"))
    size = rng.choice((None, None, 8, 16))
    calls = {
        "load": lambda: oche.data.load(data, layout=layout, size=size),
        "search": lambda: oche.search(data, engine="plain", split=0.999999999, layout=layout, size=size),
        "evaluate": lambda: oche.evaluate(sound.training, data),
        "train": lambda: oche.train(sound.training, data, split=0.999999999, layout=layout, out=at / "train"),
    }
    call = rng.choice([*calls])
    return Case((call, _shown(data)), taken=TAKEN, run=calls[call])


def _shown(data: Any) -> str:
    kind = type(data).__name__
    inner = next((getattr(data, name) for name in ("dataset", "items") if hasattr(data, name)), None)
    return kind if inner is None or callable(inner) else f"{kind} of {type(inner).__name__}"


def _data(rng: Random, depth: int) -> Any:
    """An object for ``data``: mostly one of the forms that oche takes, with mangled content."""
    how = rng.randrange(14 if depth else 7)
    if how == 0:
        return rng.choice((*_ODD, Stream(), iter([]), Items, {1, 2}, torch.zeros(4, 3, 12, 12), np.zeros((4, 12, 12))))
    if how in (1, 2):
        return _images(rng), _labels(rng)
    if how == 3:
        return [*zip(_images(rng), _labels(rng), strict=False)]
    if how in (4, 5, 6):
        return _items(rng)
    inner = _data(rng, depth - 1)
    if how in (7, 8):
        return {rng.choice(("train", "Training", "fit", 1)): inner, rng.choice(("test", "val", "x")): _data(rng, 0)}
    if how == 9 and hasattr(inner, "__len__"):
        sampler = SubsetRandomSampler(range(rng.randrange(5))) if rng.random() < 0.5 else None
        return DataLoader(inner, batch_size=rng.randrange(1, 5), sampler=sampler)
    if how == 10 and hasattr(inner, "__len__"):
        return Subset(inner, [rng.randrange(-2, 30) for _ in range(rng.randrange(30))])
    if how == 11 and isinstance(inner, Items) and len(inner):
        return ConcatDataset([inner, _items(rng) if rng.random() < 0.5 else inner])
    if how == 12:
        n = rng.randrange(1, 30)
        return TensorDataset(*(torch.zeros(n, *rng.choice(_SHAPES)) for _ in range(rng.randrange(1, 4))))
    return inner


def _images(rng: Random) -> Any:
    n, g = rng.randrange(31), np.random.default_rng(rng.randrange(2**32))
    shape = (n, *rng.choice(_SHAPES[3:]))
    values = g.random(shape) * rng.choice((0, 1, 1, 255, 255, 65535, -3, 1e30))
    with np.errstate(invalid="ignore", over="ignore"):
        array = values.astype(rng.choice(_KINDS))
    if array.dtype.kind == "f" and array.size and rng.random() < 0.2:
        array.flat[rng.randrange(array.size)] = rng.choice((np.nan, np.inf, -np.inf))
    if array.dtype.kind in "uifbc" and array.dtype != np.uint16 and rng.random() < 0.4:
        return torch.from_numpy(array)
    return list(array) if rng.random() < 0.2 else array


def _labels(rng: Random) -> Any:
    n, classes = rng.randrange(31), rng.randrange(1, 5)
    labels: Any = [k % classes for k in range(n)]
    how = rng.randrange(8)
    if how == 0:
        labels = [f"class {k}" for k in labels]
    elif how == 1:
        labels = [k + rng.choice((1, -1, 0.5)) for k in labels]
    elif how == 2:
        labels = np.eye(classes)[labels] if n else np.zeros((0, classes))
    elif how == 3 and n:
        labels[rng.randrange(n)] = rng.choice(_ODD)
    return np.array(labels) if how in (4, 1) else torch.tensor(labels) if how == 5 else labels


def _items(rng: Random) -> Items:
    g = np.random.default_rng(rng.randrange(2**32))
    size, mode = (rng.randrange(1, 40), rng.randrange(1, 40)), rng.choice(_MODES)
    items: list[Any] = []
    for k in range(rng.randrange(30)):
        h, w = (rng.randrange(8, 40), rng.randrange(8, 40)) if rng.random() < 0.1 else size
        pixels = g.integers(0, 256, (h, w, 3), dtype=np.uint8)
        image = (
            Image.fromarray(pixels).convert("L").convert(mode)
            if mode[0] in "IF"
            else Image.fromarray(pixels).convert(mode)
        )
        items.append((rng.choice((image, image, pixels)) if rng.random() < 0.1 else image, k % 3))
    for _ in range(rng.choice((0, 0, 1, 2))):
        if items:
            k = rng.randrange(len(items))
            odd = rng.choice(_ODD)
            items[k] = rng.choice(
                ((odd, 0), (items[0], odd), odd, (items[0], 1, 2), KeyError(k), RuntimeError("a\nb"), (_pixels(rng), 1))
            )
    return Items(items, rng.choice((None, ["a", "b", "c"], ("a",), 7, ["a", "a", "b"])))


def _pixels(rng: Random) -> Any:
    return np.zeros(rng.choice(_SHAPES), rng.choice(_KINDS))
