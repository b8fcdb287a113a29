"""Images in class folders: ``root/ants/*.jpg``, or ``root/train/ants/*.jpg`` beside ``root/test`` or ``root/val``."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from oche.core.errors import OcheError, did_you_mean
from oche.data.readers.decode import SUFFIXES, ImageFiles
from oche.data.readers.records import LabelledImages, RawDataset, choose_splits, is_split_name


def read(root: Path, size: tuple[int, int] | None, show: bool, skip: bool = False) -> RawDataset:
    """Read the images of the folder, streamed. Classes are in the order of their names.

    Images are colour unless every image is grey. Without ``size`` they keep their size if all agree; otherwise it is
    64x64, or the median of their shorter sides if that is smaller. Other files and hidden ones are ignored. ``skip``:
    whether damaged images are skipped.
    """
    folders = _folders(root)
    names = [f.name for f in folders]
    if not any(map(is_split_name, names)) or not (all(map(is_split_name, names)) or _has_train(names)):
        return _table(root, folders, None, "").parts(size, show, skip)
    train, test, note = choose_splits(filter(is_split_name, names), str(root))
    return _table(root, _folders(root / train), None if test is None else root / test, note).parts(size, show, skip)


def _has_train(names: list[str]) -> bool:
    """Tell whether one of the folders ``names`` is a training part."""
    return any(n.lower().startswith("train") and is_split_name(n) for n in names)


def _table(root: Path, folders: list[Path], test: Path | None, note: str) -> LabelledImages:
    """Return the images and labels of the class ``folders``, and of the class folders in ``test``."""
    classes = tuple(f.name for f in folders)
    if len(classes) < 2:
        raise OcheError(f"{folders[0].parent} has one class folder, {folders[0].name}; give at least 2 classes")
    train_files, train_labels = _listing(folders, classes)
    test_files, test_labels = _listing(_folders(test), classes) if test is not None else ([], [])
    cut = len(train_files)
    labels = torch.tensor(train_labels + test_labels, dtype=torch.int64)
    rows: Tensor = torch.arange(len(labels))
    items = ImageFiles(train_files + test_files)
    return LabelledImages(
        root.resolve().name, items, labels, rows[:cut], None if test is None else rows[cut:], classes, note
    )


def _folders(root: Path) -> list[Path]:
    """Return the folders in ``root``, without hidden ones. Raises `OcheError` if there are none."""
    found = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise OcheError(f"{root} has no class folders; put the images of each class in a folder of its name")
    return found


def _listing(folders: list[Path], classes: tuple[str, ...]) -> tuple[list[str], list[int]]:
    """Return all images below the class ``folders``, with their class numbers."""
    files: list[str] = []
    labels: list[int] = []
    for folder in folders:
        if folder.name not in classes:
            raise OcheError(
                f"{folder} is a class without training images{did_you_mean(folder.name, classes)}; remove or rename it"
            )
        images = images_below(folder)
        if not images:
            raise OcheError(f"{folder} has no images ({', '.join(SUFFIXES)}); add some or remove the folder")
        files += map(str, images)
        labels += [classes.index(folder.name)] * len(images)
    return files, labels


def images_below(folder: Path) -> list[Path]:
    """Return the files that may be images, at any depth, in the order of their names, without hidden ones."""
    found: list[Path] = []
    for base, below, names in os.walk(folder):
        below[:] = sorted(d for d in below if not d.startswith("."))
        found += [Path(base, n) for n in sorted(names) if n.lower().endswith(SUFFIXES) and not n.startswith(".")]
    return found
