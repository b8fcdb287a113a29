"""Images in one file: parquet (encoded images and labels in columns) or npz (arrays)."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.data.dataset import Resident
from oche.data.readers.binary_formats import check_fits
from oche.data.readers.decode import Encoded
from oche.data.readers.records import LabelledImages, RawDataset, choose_splits, encode_labels
from oche.data.registry import SMALLEST

IMAGE = ("image", "img", "picture", "jpg", "jpeg", "png")
LABEL = ("label", "labels", "fine_label", "target", "class", "y")
_ARRAY_NAMES = (  # (training images, their labels, test images, their labels), in lower case
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x", "y", None, None),
    ("images", "labels", None, None),
)


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
    train, test, unused = _rows(path, table[split[0]].to_pylist() if split else None, len(table))
    values = np.array(table[label].to_pylist(), dtype=object)
    labels, classes = encode_labels(values, train, test, names, lambda i: f"{path}: row {i}")
    items = ParquetImages(path, _binary(path, table[image]))
    places = torch.from_numpy(train), None if test is None else torch.from_numpy(test)
    note = "; ".join(filter(None, (note, unused)))
    return LabelledImages(path.stem, items, labels, *places, classes, note).parts(size, show, skip, lossy=True)


def _open_parquet(path: Path) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise OcheError(f"reading {path} needs pyarrow; pip install 'oche[parquet]'") from error
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
    """Return the first column with one of ``names``, in any case. Raises `OcheError` if there is none."""
    columns = {n.lower(): n for n in schema.names}
    for name in names:
        if name in columns:
            return columns[name]
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


def _rows(path: Path, split: list | None, n: int) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Return the rows of the training part and of the test part, and a note about other parts."""
    if split is None:
        return np.arange(n), None, ""
    column = np.array([str(s) for s in split])
    train, test, note = choose_splits(sorted(set(column.tolist())), f"{path}: column split")
    return np.flatnonzero(column == train), None if test is None else np.flatnonzero(column == test), note


def read_npz(path: Path, size: tuple[int, int] | None, memory: int, show: bool) -> RawDataset:
    """Read arrays x, y (or images, labels), or x_train, y_train, x_test, y_test (or train_images, …), and optionally classes.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W): the shorter of the second and the last axis is C (the last if they
    are equal). They are uint8, other integers in 0..255, or floats in [0, 1], which are rounded to 8 bits (noted).
    Pickled arrays are refused.
    """
    del size, show
    arrays = _arrays(path, memory)
    keys = next((k for k in _ARRAY_NAMES if k[0] in arrays and k[1] in arrays), None)
    if keys is None:
        raise OcheError(
            f"{path} has arrays {', '.join(arrays) or '(none)'}; give x and y, or x_train, y_train, x_test, y_test"
        )
    parts = [(x, y) for x, y in (keys[:2], keys[2:]) if x in arrays and y in arrays]
    images = [_images(path, str(x), arrays[x]) for x, _ in parts]
    values = [_labels(path, str(y), arrays[y], len(v)) for (_, y), (v, _) in zip(parts, images, strict=True)]
    cut = len(values[0])
    rows = np.arange(sum(map(len, values)))
    names = next((tuple(map(str, arrays[k].tolist())) for k in ("classes", "class_names") if k in arrays), None)

    def row(i: int) -> str:
        return f"{path}: {parts[0][1]}[{i}]" if i < cut else f"{path}: {parts[1][1]}[{i - cut}]"

    codes, classes = encode_labels(
        np.concatenate(values), rows[:cut], rows[cut:] if len(parts) > 1 else None, names, row
    )
    splits = [Resident(v, c) for (v, _), c in zip(images, codes.split([len(v) for v in values]), strict=True)]
    if len({s.shape for s in splits}) > 1:
        raise OcheError(
            f"{path}: training images are {splits[0].shape}, test images {splits[1].shape} (C, H, W); make them alike"
        )
    note = "float images were rounded to 8 bits" if any(rounded for _, rounded in images) else ""
    return RawDataset(path.stem, splits[0], splits[1] if len(splits) > 1 else None, classes, note)


def _arrays(path: Path, memory: int) -> dict[Any, np.ndarray]:
    """Return all arrays of the file, by lower-case name."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_fits(path, sum(i.file_size for i in archive.infolist()), memory)
        with np.load(path, allow_pickle=False) as file:
            return {k.lower(): file[k] for k in file.files}
    except OcheError:
        raise
    except Exception as error:  # numpy and zipfile raise any kind of error for damaged bytes
        reason = "it is empty" if path.stat().st_size == 0 else str(error).split("\n")[0]
        raise OcheError(f"{path} is not an npz file of plain arrays ({reason}); write it with numpy.savez") from error


def _images(path: Path, key: str, x: np.ndarray) -> tuple[Tensor, bool]:
    """Return uint8 images (N, C, H, W), and whether floats were rounded."""
    if x.ndim not in (3, 4) or not x.size:
        raise OcheError(f"{path}: {key} has shape {x.shape}; give images (N, H, W), (N, H, W, C) or (N, C, H, W)")
    x = x[:, None] if x.ndim == 3 else x if x.shape[1] < x.shape[3] else x.transpose(0, 3, 1, 2)
    if min(x.shape[2:]) < SMALLEST:
        raise OcheError(
            f"{path}: {key} has images of {x.shape[3]}x{x.shape[2]} pixels; networks need {SMALLEST} a side"
        )
    low, high = x.min(), x.max()
    if x.dtype.kind == "f" and low >= 0 and high <= 1:
        return torch.from_numpy(np.ascontiguousarray(np.rint(x * 255).astype(np.uint8))), True
    if x.dtype.kind in "iu" and low >= 0 and high <= 255:
        return torch.from_numpy(np.ascontiguousarray(x.astype(np.uint8, copy=False))), False
    raise OcheError(
        f"{path}: {key} is {x.dtype} from {low} to {high}; give uint8, integers in 0..255 or floats in [0, 1]"
    )


def _labels(path: Path, key: str, y: np.ndarray, n: int) -> np.ndarray:
    """Return labels (N,). Raises `OcheError` for other shapes and types."""
    if y.shape not in ((n,), (n, 1)) or y.dtype.kind not in "iuUb":
        raise OcheError(
            f"{path}: {key} has shape {y.shape} and type {y.dtype}; {n} images need ({n},) integers or strings"
        )
    return y.reshape(n)
