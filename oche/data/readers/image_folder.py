"""Images in class folders: ``root/ants/*.jpg``, or ``root/train/ants/*.jpg`` beside ``root/test`` or ``root/val``."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.data.readers.decode import SUFFIXES, ImageFiles
from oche.data.readers.folder_layout import Layout, find_layout
from oche.data.readers.label_table import read_table
from oche.data.readers.listing import Unread, list_images
from oche.data.readers.measuring import find_measured, measured_classes
from oche.data.readers.records import ROLES, LabelledImages, RawDataset


def read(root: Path, size: tuple[int, int] | None, show: bool, skip: bool = False) -> RawDataset:
    """Read the images of the folder, streamed. Classes are in the order of their names.

    Images are colour unless every image is grey. Without ``size`` they keep their size if all agree; otherwise it is
    64x64, or the median of their shorter sides if that is smaller. The note counts what may be meant as an image and is
    not read. Without class folders the labels may be in a table, see `oche.data.readers.label_table`. ``skip``: whether
    damaged images are skipped.
    """
    unread = Unread(root)
    try:
        layout = (
            find_layout(root, unread) if measured_classes() is None else Layout(*find_measured(root, unread, ROLES))
        )
    except OcheError:
        if (table := read_table(root, Unread(root))) is None:
            raise
        return table.parts(size, show, skip)
    classes = tuple(folder.name for folder in layout.train)
    files, labels = _listing(layout.train, classes, unread)
    cut = len(files)
    if layout.test is not None:
        test_files, test_labels = _listing(layout.test, classes, unread)
        files, labels = files + test_files, labels + test_labels
    if unread.links:
        files, labels, cut, twice = _without_twins(files, labels, cut)
        layout.notes.extend(twice)
    numbers = torch.tensor(labels, dtype=torch.int64)
    rows: Tensor = torch.arange(len(files))
    note = "; ".join([*layout.notes, *unread.lines()])
    return LabelledImages(
        root.resolve().name,
        ImageFiles(files),
        numbers,
        rows[:cut],
        None if layout.test is None else rows[cut:],
        classes,
        note,
    ).parts(size, show, skip)


def _listing(folders: list[Path], classes: tuple[str, ...], unread: Unread) -> tuple[list[str], list[int]]:
    """Return all images below the class ``folders``, with their class numbers. Count what is not read in ``unread``."""
    files: list[str] = []
    labels: list[int] = []
    for folder in folders:
        images = list_images(folder, unread)
        if not images:
            inside = Unread(folder)
            list_images(folder, inside)
            found = "; ".join(inside.lines()) or ", ".join(SUFFIXES)
            raise OcheError(f"{folder} has no images that are read ({found}); add some or remove the folder")
        files += images
        labels += [classes.index(folder.name)] * len(images)
    return files, labels


def _without_twins(files: list[str], labels: list[int], cut: int) -> tuple[list[str], list[int], int, list[str]]:
    """Return the files, labels and number of training images without links to files that are listed themselves; and a note.

    Otherwise an image could be trained on under one name and tested under the other. Raises `OcheError` if the two names
    have different classes, or one is in the test part.
    """
    first: dict[tuple[int, int], int] = {}
    twins: set[int] = set()
    # Files before links, so that the link is left out. Broken links are refused as images that cannot be read.
    for i in sorted((i for i in range(len(files)) if os.path.exists(files[i])), key=lambda i: os.path.islink(files[i])):
        facts = os.stat(files[i])
        k = first.setdefault((facts.st_dev, facts.st_ino), i)
        if k == i or not os.path.islink(files[i]):
            continue
        if labels[k] != labels[i] or (k < cut) != (i < cut):
            how = "another class" if labels[k] != labels[i] else "the other part"
            raise OcheError(f"{files[i]} is a link to {files[k]}, an image of {how}; remove one of the two")
        twins.add(i)
    kept = [i for i in range(len(files)) if i not in twins]
    more = f"{len(twins)} link{'s' if len(twins) > 1 else ''} to images that are read anyway left out"
    return [files[i] for i in kept], [labels[i] for i in kept], sum(i < cut for i in kept), [more] if twins else []


def images_below(folder: Path) -> list[Path]:
    """Return the files below ``folder`` that are read as images, at any depth, in the order of their names."""
    return list(map(Path, list_images(folder, Unread(folder))))
