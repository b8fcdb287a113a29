"""The named data sets, read from the files that their authors published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oche.core.errors import OcheError, plural
from oche.data.dataset import Resident
from oche.data.readers import binary_formats as formats
from oche.data.readers.download import Archive, locate_archive
from oche.data.readers.labels import encode_labels
from oche.data.readers.records import RawDataset

DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@dataclass(frozen=True)
class RawSplit:
    """One part as read: ``images`` uint8 (N, C, H, W), ``labels`` (N,), and the file for error messages."""

    images: np.ndarray
    labels: np.ndarray
    file: str


Read = tuple[RawSplit, RawSplit, tuple[str, ...]]  # training part, test part, class names


@dataclass(frozen=True)
class NamedSet:
    """A published set: its archives, and the function that reads them within a limit on memory."""

    archives: tuple[Archive, ...]
    read: Callable[[list[Path], int], Read]


def read(name: str, data_dir: Path | None, memory: int, show: bool) -> RawDataset:
    """Read the set ``name``, one of `DATASETS`, from ``data_dir``, the cache or the network. Raises `OcheError`."""
    if name == "digits":
        return digits()
    named = NAMED[name]
    paths, notes = zip(*(locate_archive(name, a, data_dir, show) for a in named.archives), strict=True)
    train, test, classes = named.read(list(paths), memory)
    labels = []
    for part in (train, test):
        if len(part.images) != len(part.labels):
            raise OcheError(
                f"{part.file} has {plural(len(part.labels), 'label')} for {plural(len(part.images), 'image')}; "
                "download both again"
            )
        labels.append(part.labels)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise OcheError(
            f"{name}: training images are {train.images.shape[1:]}, those of {test.file} {test.images.shape[1:]}"
        )
    cut, rows = len(labels[0]), np.arange(sum(map(len, labels)))

    def row(i: int) -> str:
        return f"{train.file}: label {i}" if i < cut else f"{test.file}: label {i - cut}"

    codes, classes = encode_labels(np.concatenate(labels), rows[:cut], rows[cut:], classes, row)
    splits = [
        Resident(torch.from_numpy(np.array(part.images, order="C")), own)  # a copy: buffers from files are read-only
        for part, own in ((train, codes[:cut]), (test, codes[cut:]))
    ]
    return RawDataset(name, splits[0], splits[1], classes, "; ".join(filter(None, notes)))


def digits() -> RawDataset:
    """Read the 1,797 digits (1, 8, 8) of scikit-learn. Their 17 grey levels become 0..255. They have no test part."""
    table = _digits_table()
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = table[:, -1].astype(np.int64)
    return RawDataset("digits", Resident(torch.from_numpy(images), torch.from_numpy(labels)), None, DIGITS)


@cache
def _digits_table() -> np.ndarray:
    """Return the table (1797, 65) that `sklearn.datasets.load_digits` reads: 64 grey levels 0..16 and the label of each digit.

    Its file is read without importing scikit-learn, which takes longer than all else before the first step of a small run.
    """
    package = find_spec("sklearn")
    file = Path(package.origin if package and package.origin else "").parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # another version keeps the file elsewhere

    found: Any = load_digits()
    return np.column_stack([found.data, found.target])


def _idx_reader(classes: tuple[str, ...]) -> Callable[[list[Path], int], Read]:
    """Return a reader of four IDX files: images and labels for training, then for testing."""

    def read(paths: list[Path], memory: int) -> Read:
        parts = [
            RawSplit(formats.read_idx(images, 3, memory)[:, None], formats.read_idx(labels, 1, memory), str(labels))
            for images, labels in (paths[:2], paths[2:])
        ]
        return parts[0], parts[1], classes

    return read


def _cifar_reader(train: tuple[str, ...], test: str, names: str, label_bytes: int) -> Callable[[list[Path], int], Read]:
    """Return a reader of CIFAR's binary archive: the files of the training part, of the test part and of the class names."""

    def read(paths: list[Path], memory: int) -> Read:
        path = paths[0]
        found = formats.read_members(path, (*train, test, names), memory)
        read = {n: formats.read_cifar(f"{path}: {n}", found[n], label_bytes) for n in (*train, test)}
        images, labels = (np.concatenate([read[n][k] for n in train]) for k in (0, 1))
        classes = tuple(found[names].decode("utf-8", "replace").split())
        whole = train[0] if len(train) == 1 else f"{train[0]} and following"
        return RawSplit(images, labels, f"{path}: {whole}"), RawSplit(*read[test], f"{path}: {test}"), classes

    return read


def _read_svhn(paths: list[Path], memory: int) -> Read:
    train, test = (RawSplit(*formats.read_svhn(p, memory), str(p)) for p in paths)
    return train, test, DIGITS


def _idx_archives(md5: tuple[str, str, str, str], *sites: str) -> tuple[Archive, ...]:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    pairs = zip(names, md5, strict=True)
    return tuple(Archive(f"{n}.gz", m, tuple(f"{s}{n}.gz" for s in sites), n) for n, m in pairs)


def _archive(site: str, file: str, md5: str, unpacked: str) -> Archive:
    return Archive(file, md5, (f"{site}{file}",), unpacked)


_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_STANFORD = "http://ufldl.stanford.edu/housenumbers/"
_BATCHES = tuple(f"data_batch_{k}.bin" for k in range(1, 6))

NAMED: dict[str, NamedSet] = {
    "mnist": NamedSet(
        _idx_archives(
            ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
             "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"),
            "https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/",
        ),
        _idx_reader(DIGITS),
    ),
    "fashion-mnist": NamedSet(
        _idx_archives(
            ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
             "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        _idx_reader(_CLOTHES),
    ),
    "cifar10": NamedSet(
        (_archive(_TORONTO, "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-batches-bin"),),
        _cifar_reader(_BATCHES, "test_batch.bin", "batches.meta.txt", label_bytes=1),
    ),
    "cifar100": NamedSet(
        (_archive(_TORONTO, "cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", "cifar-100-binary"),),
        _cifar_reader(("train.bin",), "test.bin", "fine_label_names.txt", label_bytes=2),
    ),
    "svhn": NamedSet(
        (_archive(_STANFORD, "train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", "train_32x32.mat"),
         _archive(_STANFORD, "test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", "test_32x32.mat")),
        _read_svhn,
    ),
}  # fmt: skip
