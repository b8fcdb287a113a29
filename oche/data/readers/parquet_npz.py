"""Images in one file: parquet (encoded images and labels in columns) or npz (arrays)."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oche.core.errors import OcheError
from oche.core.extras import need
from oche.data.readers.binary_formats import check_fits
from oche.data.readers.decode import Encoded
from oche.data.readers.file_parts import IMAGE, LABEL, array_parts, files_beside, row_parts, unused_columns
from oche.data.readers.labels import encode_labels, label_notes
from oche.data.readers.pixels import Axes, channels_first, image_split
from oche.data.readers.records import LabelledImages, RawDataset


@dataclass(frozen=True)
class ParquetImages:
    """Encoded images in a column of an Arrow table."""

    path: Path
    rows: Any  # pyarrow.ChunkedArray of binary

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, i: int) -> Encoded:
        if (value := self.rows[i].as_py()) is None:
            raise OcheError(f"{self.name(i)} has no image bytes; remove it")
        return value

    def name(self, i: int) -> str:
        return f"{self.path}: row {i}"


def read_parquet(path: Path, size: tuple[int, int] | None, memory: int, show: bool, skip: bool = False) -> RawDataset:
    """Read the columns image (bytes, or struct with bytes), label (integer or string) and, if present, split (train, test, val).

    Class names come from the schema's metadata: ``class_names`` (a JSON list) or Hugging Face's. So does the note:
    ``note`` or ``source``. The encoded images stay in memory. ``skip``: whether damaged images are skipped.
    """
    file = _open_parquet(path)
    schema = file.schema_arrow
    image = _column(path, schema, IMAGE, "image")
    label = _column(path, schema, LABEL, "label")
    split = [n for n in schema.names if n.lower() == "split"]
    need = sum(file.metadata.row_group(g).total_byte_size for g in range(file.metadata.num_row_groups))
    check_fits(path, need, memory)
    table = _read(path, lambda: file.read([image, label, *split]))
    if not len(table):
        raise OcheError(f"{path} has no rows; give it images")
    names, note = _metadata(schema, label)
    values = np.empty(len(table), dtype=object)
    values[:] = table[label].to_pylist()  # assigned: np.array makes a second axis of rows that are lists
    train, test, unused = row_parts(path, table[split[0]].to_pylist() if split else None, values)
    labels, classes = encode_labels(values, train, test, names, lambda i: f"{path}: row {i}")
    items = ParquetImages(path, _binary(path, table[image]))
    places = torch.from_numpy(train), None if test is None else torch.from_numpy(test)
    unused += [unused_columns(schema, (image, label, *split)), files_beside(path)]
    note = "; ".join(filter(None, (note, *unused)))
    return LabelledImages(path.stem, items, labels, *places, classes, note).parts(size, show, skip, lossy=True)


def _open_parquet(path: Path) -> Any:
    pq = need(f"reading {path}", "pyarrow.parquet")
    return _read(path, lambda: pq.ParquetFile(path))


def _read(path: Path, read: Callable[[], Any]) -> Any:
    """Return ``read()``. Raises `OcheError` if the parquet file ``path`` is damaged."""
    from pyarrow import ArrowException

    try:
        return read()
    except (ArrowException, OSError, ValueError) as error:
        reason = "it is empty" if path.stat().st_size == 0 else str(error).split("\n")[0]
        raise OcheError(f"{path} cannot be read as a parquet file ({reason}); fetch or write it again") from error


def _column(path: Path, schema: Any, names: Sequence[str], what: str) -> str:
    """Return the first column with one of ``names``, in any case. Raises `OcheError` if there is none, or two of a name."""
    for name in names:
        columns = [n for n in schema.names if n.lower() == name]
        if len(columns) > 1:
            raise OcheError(
                f"{path} has columns {' and '.join(columns)}, either of which may be the {what}; rename one"
            )
        if columns:
            return columns[0]
    raise OcheError(
        f"{path} has columns {', '.join(schema.names)} and none of them is the {what}; name it {names[0]!r}"
    )


def _binary(path: Path, column: Any) -> Any:
    """Return the column of encoded images, taken out of structs if needed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = pc.struct_field(column, "bytes")  # pyright: ignore[reportAttributeAccessIssue]
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise OcheError(f"{path}: images are of type {column.type}; store encoded images (PNG, JPEG) as bytes")
    return column


def _metadata(schema: Any, label: str) -> tuple[tuple[str, ...] | None, str]:
    """Return (class names, note) from the metadata of ``schema``; None for class names that it lacks."""
    found = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in (schema.metadata or {}).items()}
    note = found.get("note") or (f"source: {found['source']}" if "source" in found else "")
    try:
        if "class_names" in found:
            return tuple(map(str, json.loads(found["class_names"]))), note
        hub = json.loads(found.get("huggingface", "{}"))
        return tuple(map(str, hub["info"]["features"][label]["names"])), note
    except (KeyError, TypeError, ValueError):  # metadata is optional: without it the labels are the class names
        return None, note


def read_npz(path: Path, size: tuple[int, int] | None, memory: int, show: bool, axes: Axes = Axes()) -> RawDataset:
    """Read arrays x, y (or images, labels), or x_train, y_train, x_test, y_test (or train_images, …), and optionally classes.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W); ``axes`` (or an array called layout) tells which, see
    `oche.data.readers.pixels.channels_first`. They are of any integers or floats. Pickled arrays are refused.
    """
    del size, show
    arrays = _arrays(path, memory)
    parts, notes = array_parts(path, arrays)
    axes = replace(axes, layout=_layout(path, arrays, axes.layout))
    images = [channels_first(arrays[x], f"{path}: {x}", axes) for x, _ in parts]
    values = [_labels(path, str(y), arrays[y], len(v)) for (_, y), v in zip(parts, images, strict=True)]
    cut = len(values[0])
    rows = np.arange(sum(map(len, values)))
    names = next((tuple(map(str, arrays[k].tolist())) for k in ("classes", "class_names") if k in arrays), None)

    def row(i: int) -> str:
        return f"{path}: {parts[0][1]}[{i}]" if i < cut else f"{path}: {parts[1][1]}[{i - cut}]"

    codes, classes = encode_labels(
        np.concatenate(values), rows[:cut], rows[cut:] if len(parts) > 1 else None, names, row
    )
    coded = zip(parts, images, codes.split([len(v) for v in values]), strict=True)
    splits = [image_split(v, c, f"{path}: {x}") for (x, _), v, c in coded]
    if len({s.shape for s in splits}) > 1:
        raise OcheError(
            f"{path}: training images are {splits[0].shape}, test images {splits[1].shape} (C, H, W); make them alike"
        )
    told = str(arrays["note"]) if "note" in arrays else ""
    note = "; ".join(filter(None, (told, *notes, files_beside(path), *label_notes(classes))))
    return RawDataset(path.stem, splits[0], splits[1] if len(splits) > 1 else None, classes, note)


def _arrays(path: Path, memory: int) -> dict[Any, np.ndarray]:
    """Return all arrays of the file, by lower-case name."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_fits(path, sum(i.file_size for i in archive.infolist()), memory)
        with np.load(path, allow_pickle=False) as file:
            names = [k.lower() for k in file.files]
            if twice := sorted({k for k in names if names.count(k) > 1}):
                raise OcheError(f"{path} has two arrays called {twice[0]}, but for the case; rename one of them")
            return {k.lower(): file[k] for k in file.files}
    except OcheError:
        raise
    except Exception as error:  # numpy and zipfile raise any kind of error for damaged bytes
        reason = "it is empty" if path.stat().st_size == 0 else str(error).split("\n")[0]
        raise OcheError(f"{path} is not an npz file of plain arrays ({reason}); write it with numpy.savez") from error


def _layout(path: Path, arrays: Mapping[Any, np.ndarray], layout: str | None) -> str | None:
    """Return ``layout``, or what the array of that name says: NHWC or NCHW. Raises `OcheError` for other words."""
    told = str(arrays["layout"]) if layout is None and "layout" in arrays else layout
    if told not in (None, "NHWC", "NCHW"):
        raise OcheError(f"{path}: layout is {told!r}; write NHWC or NCHW")
    return told


def _labels(path: Path, key: str, y: np.ndarray, n: int) -> np.ndarray:
    """Return labels (N,). Raises `OcheError` for other shapes and types."""
    if y.shape not in ((n,), (n, 1)) or y.dtype.kind not in "iuUb":
        raise OcheError(
            f"{path}: {key} has shape {y.shape} and type {y.dtype}; {n} images need ({n},) integers or strings"
        )
    return y.reshape(n)
