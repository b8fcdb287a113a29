"""Images in one folder with a table of their labels beside it: ``root/labels.csv``, ``root/train/*.jpg``, as in competitions."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from oche.core.errors import OcheError, one_line
from oche.data.readers.decode import ImageFiles
from oche.data.readers.file_parts import LABEL, row_parts
from oche.data.readers.labels import encode_labels
from oche.data.readers.listing import Unread, count_loose, folders_in, has_images, list_images, tables_in
from oche.data.readers.records import LabelledImages, count_images

_LABEL = (*LABEL, "category", "breed", "species", "diagnosis", "class_name", "label_name", "class_id", "label_id")
_OF_RESULTS = ("submission", "sample", "test")  # words in the names of tables without true labels
_ENOUGH = 0.5  # share of the rows that name an image; below it a table is about something else


@dataclass(frozen=True)
class _Table:
    """The rows of a table, those of its columns that name images and labels, and the images that the rows name."""

    path: Path
    header: list[str]
    rows: list[list[str]]
    folder: Path
    column: int
    """the column of the names of images"""
    files: list[str | None]

    @property
    def named(self) -> int:
        """The number of images that the rows name."""
        return len({*self.files} - {None})

    def row(self, i: int) -> str:
        """Return the name of row ``i`` in errors, by its line."""
        return f"{self.path}: line {i + 1 + bool(self.header)}"

    def label_column(self) -> int:
        """Return the column of the labels: the one of a usual name, or the only other one. Raises `OcheError`."""
        names = [name.strip().lower() for name in self.header]
        usual = [names.index(name) for name in _LABEL if name in names and names.index(name) != self.column]
        others = [k for k in range(len(self.rows[0])) if k != self.column and names[k : k + 1] != ["split"]]
        if usual:
            return usual[0]
        if len(others) != 1:
            told = ", ".join(map(one_line, self.header)) or f"{len(self.rows[0])} without names"
            raise OcheError(f"{self.path} has the columns {told} and none of them is the label; name it 'label'")
        return others[0]


def read_table(root: Path, unread: Unread) -> LabelledImages | None:
    """Return the images that a table in ``root`` gives labels; None if there is no table that names images.

    A table is a .csv or .tsv file. One column names images in ``root`` or in a folder of it, with or without suffix and
    folders; one has the labels; a column split may tell parts. Raises `OcheError` for rows without an image, for an image in
    two rows, for two such tables, and where labels are refused.
    """
    found = [t for t in (_matched(path, root) for path in tables_in(root)) if t is not None]
    if len(found) > 1:
        found = [t for t in found if not any(word in t.path.stem.lower() for word in _OF_RESULTS)] or found
    if not found:
        return None
    if len(found) > 1:
        names = " and ".join(t.path.name for t in found)
        raise OcheError(f"{root} has {names}, which both name images; leave the one with the labels to read")
    return _labelled(root, found[0], unread)


def _labelled(root: Path, table: _Table, unread: Unread) -> LabelledImages:
    missing = [i for i, file in enumerate(table.files) if file is None]
    if missing:
        more = f" (and {len(missing) - 1:,} more like it)" if missing[1:] else ""
        name = one_line(table.rows[missing[0]][table.column])
        raise OcheError(
            f"{table.row(missing[0])} names {name!r}, of which there is no image in {table.folder}{more}; add the images or "
            "remove the rows"
        )
    files = [file for file in table.files if file is not None]
    first: dict[str, int] = {}
    twice = next((i for i, file in enumerate(files) if first.setdefault(file, i) != i), None)
    if twice is not None:
        raise OcheError(f"{table.row(twice)} names {files[twice]}, as an earlier line does; give each image one line")
    values = np.empty(len(files), dtype=object)
    label = table.label_column()
    values[:] = [row[label].strip() for row in table.rows]
    names = [name.strip().lower() for name in table.header]
    split = [row[names.index("split")] for row in table.rows] if "split" in names else None
    train, test, notes = row_parts(table.path, split, values)
    labels, classes = encode_labels(values, train, test, None, table.row)
    places = torch.from_numpy(train), None if test is None else torch.from_numpy(test)
    note = "; ".join(
        filter(None, [f"labels are those of {one_line(table.path.name)}", *notes, *_rest(root, table, unread)])
    )
    return LabelledImages(root.resolve().name, ImageFiles(files), labels, *places, classes, note)


def _rest(root: Path, table: _Table, unread: Unread) -> list[str]:
    """Return notes on the images that the table does not name, and on the folders beside its own."""
    own = list_images(table.folder, unread)
    unnamed = sorted({*own} - {*table.files})
    notes = []
    if unnamed:
        more = f" and {len(unnamed) - 1:,} more" if unnamed[1:] else ""
        name = one_line(table.path.name)
        notes.append(
            f"not used, for want of a line in {name}: {count_images(len(unnamed))} ({unread.name(unnamed[0])}{more})"
        )
    if table.folder != root:
        count_loose(root, unread)
        for folder in folders_in(root):
            if folder != table.folder and (count := len(list_images(folder, Unread(folder)))):
                notes.append(f"not used, without labels: {one_line(folder.name)} ({count_images(count)})")
    return [*notes, *unread.lines()]


def _matched(path: Path, root: Path) -> _Table | None:
    """Return the table at ``path`` with the images of the folder that most of its rows name; None if too few name any."""
    lines = _lines(path)
    if len(lines) < 2:
        return None
    folders = [root] if has_images(root, deep=False) else [f for f in folders_in(root) if has_images(f, deep=False)]
    best: _Table | None = None
    for folder in folders:
        files = _by_name(folder)
        for column in range(len(lines[0])):
            has_header = _find(files, lines[0][column]) is None
            rows = lines[1:] if has_header else lines
            images = [_find(files, row[column]) for row in rows]
            table = _Table(path, lines[0] if has_header else [], rows, folder, column, images)
            if table.named >= _ENOUGH * len(rows) and (best is None or table.named > best.named):
                best = table
    return best


def _by_name(folder: Path) -> dict[str, str]:
    """Return the images below ``folder`` by path, by name and by name without suffix, as far as these are unique."""
    files = list_images(folder, Unread(folder))
    found: dict[str, str] = {}
    for name in (lambda p: p.name, lambda p: p.stem):
        names = [name(Path(file)) for file in files]
        found |= {n: file for n, file in zip(names, files, strict=True)} if len({*names}) == len(names) else {}
    return found | {str(Path(file).relative_to(folder)): file for file in files}


def _find(files: dict[str, str], name: str) -> str | None:
    """Return the image that a cell of a table names, with or without folders and suffix."""
    name = name.strip().replace("\\", "/")
    return files.get(name) or files.get(name.rpartition("/")[2]) if name else None


def _lines(path: Path) -> list[list[str]]:
    """Return the lines of a table, all with as many cells as the first; none of a file that is no such table."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        lines = [row for row in csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count)) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return lines if all(len(row) == len(lines[0]) for row in lines) else []
