"""Image sets on the Hugging Face hub, read with its own package `datasets` (pip install 'oche[hub]')."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oche.core.errors import OcheError, one_line
from oche.core.extras import need
from oche.data.readers.decode import Encoded
from oche.data.readers.file_parts import LABEL, without_labels
from oche.data.readers.labels import encode_labels, has_labels
from oche.data.readers.records import LabelledImages, RawDataset, choose_splits


@dataclass(frozen=True)
class HubImages:
    """Undecoded images in the rows of one or more tables of the hub, one table after another."""

    where: str
    tables: tuple[tuple[str, Any], ...]  # (name of the part, datasets.Dataset)
    starts: tuple[int, ...]  # number of the first image of each table, then the number of all images
    column: str

    def __len__(self) -> int:
        return self.starts[-1]

    def read(self, i: int) -> Encoded:
        k = bisect_right(self.starts, i) - 1
        value = self.tables[k][1][i - self.starts[k]][self.column] or {}
        if value.get("bytes") is not None:
            return value["bytes"]
        if value.get("path"):
            return Path(value["path"])
        raise OcheError(f"{self.name(i)} has no image")

    def name(self, i: int) -> str:
        k = bisect_right(self.starts, i) - 1
        return f"{self.where}: {self.tables[k][0]} row {i - self.starts[k]}"


def read(name: str, size: tuple[int, int] | None, show: bool, skip: bool = False) -> RawDataset:
    """Read the set ``hf:owner/name[:config]``, streamed: its first column of type Image, its label of type ClassLabel.

    Parts whose labels are all −1 or missing (not published) are not used. ``skip``: whether damaged images are skipped too.
    """
    repository, _, config = name.removeprefix("hf:").partition(":")
    if not repository.strip("/"):
        raise OcheError(f"{name} does not name a set on the hub; write hf:owner/name, or hf:owner/name:config")
    datasets = _package(name)
    found = _fetch(datasets, name, repository, config or None)
    features = next(iter(found.values())).features
    image = _column(name, features, datasets.Image, ())
    label = _column(name, features, datasets.ClassLabel, LABEL)
    values = {part: np.array(table[label][:], dtype=object) for part, table in found.items()}
    counts = {part: len(values[part]) for part in found}
    secret = {part: count for part, count in counts.items() if not has_labels(values[part])}
    train, test, unused = choose_splits({part: count for part, count in counts.items() if part not in secret}, name)
    others = _others(features, (image, label), datasets.Image, datasets.ClassLabel)
    note = "; ".join(filter(None, (unused, without_labels(secret), others)))
    parts = [part for part in (train, test) if part is not None]
    raw = datasets.Image(decode=False)  # keep the encoded bytes: oche decodes in threads
    tables = tuple((p, found[p].select_columns([image]).cast_column(image, raw)) for p in parts)
    starts = (0, *np.cumsum([len(values[p]) for p in parts]).tolist())
    items = HubImages(name, tables, starts, image)
    rows = np.arange(starts[-1])
    train_rows, test_rows = rows[: starts[1]], rows[starts[1] :] if test else None
    names = getattr(features[label], "names", None)
    joined = np.concatenate([values[p] for p in parts])
    labels, classes = encode_labels(joined, train_rows, test_rows, names and tuple(names), items.name)
    places = torch.from_numpy(train_rows), None if test_rows is None else torch.from_numpy(test_rows)
    return LabelledImages(repository.rpartition("/")[2], items, labels, *places, classes, note).parts(
        size, show, skip, lossy=True
    )


def _others(features: Any, used: tuple[str, str], *kinds: type) -> str:
    """Return a note that names the columns of images and of classes that are not used."""
    found = [one_line(c) for c, feature in features.items() if c not in used and isinstance(feature, kinds)]
    return f"columns not used: {', '.join(found)}" if found else ""


def _package(name: str) -> Any:
    return need(f"reading {name}", "datasets")


def _fetch(datasets: Any, name: str, repository: str, config: str | None) -> dict[str, Any]:
    """Return the tables of the set, by name of their part."""
    try:
        found = datasets.load_dataset(repository, config)
    except Exception as error:  # network, unknown name, unknown config, gated set: each of another type
        reason = str(error).split("\n")[0]
        raise OcheError(
            f"{name} could not be read from the hub ({type(error).__name__}: {reason}); check the name and the connection, "
            "or download it and give a folder or .parquet file"
        ) from error
    found = {str(part): table for part, table in found.items() if len(table)}
    if not found:
        raise OcheError(f"{name} has no rows; give a set with images")
    return found


def _column(name: str, features: Any, kind: type, usual: Iterable[str]) -> str:
    """Return the column of type ``kind``, preferably one with a ``usual`` name.

    Without such a column a usual name is enough.
    """
    typed = [c for c, feature in features.items() if isinstance(feature, kind)]
    named = {c.lower(): c for c in reversed(typed or features)}
    for word in usual:
        if word in named:
            return named[word]
    if not typed:
        columns = ", ".join(f"{c} ({type(feature).__name__})" for c, feature in features.items())
        raise OcheError(
            f"{name} has columns {columns} and none of type {kind.__name__}; give a set of images with classes"
        )
    return typed[0]
