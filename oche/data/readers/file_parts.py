"""Which arrays, columns and rows of one file are used, and notes about the rest: parts, labels, other shards beside it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oche.core.errors import OcheError, one_line
from oche.data.readers.labels import has_labels
from oche.data.readers.measuring import measured_classes
from oche.data.readers.records import ROLES, choose_splits, count_images, is_split_name

IMAGE = ("image", "img", "picture", "jpg", "jpeg", "png")
LABEL = ("label", "labels", "fine_label", "target", "class", "y")
_ARRAY_NAMES = (  # (images, labels) of one part of an npz file, in lower case
    ("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("images_{}", "labels_{}"), ("{}_x", "{}_y"), ("{}_data", "{}_labels"),
)  # fmt: skip
_WHOLE = (("x", "y"), ("images", "labels"))  # the same where there are no parts
_FACTS = ("classes", "class_names", "layout", "note")
_SUSPECTS = ("label", "class", "target", "category", "image", "img", "mask", "split", "fold", "subset", "partition")


def row_parts(
    path: Path, split: Sequence[Any] | None, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Return the rows of the training part and of the test part, and notes about other parts and parts without labels.

    ``split`` and ``labels`` hold the values of all rows; ``split`` None: all rows are for training.
    """
    if split is None:
        return np.arange(len(labels)), None, []
    column = np.array([str(s).strip().lower() for s in split])
    counts = {str(name): int((column == name).sum()) for name in sorted(set(column.tolist()))}
    secret = [n for n in counts if n not in ROLES["train"] and is_split_name(n) and not has_labels(labels[column == n])]
    known = {name: count for name, count in counts.items() if name not in secret}
    train, test, note = choose_splits(known, f"{path}: column split")
    notes = [without_labels({name: counts[name] for name in secret}), note]
    return np.flatnonzero(column == train), None if test is None else np.flatnonzero(column == test), notes


def without_labels(counts: Mapping[str, int]) -> str:
    """Return a note about parts, with their numbers of images, whose labels are not known; "" if there are none."""
    told = ", ".join(f"{name} ({count_images(count)})" for name, count in counts.items())
    return told and f"not used for want of labels: {told}"


def unused_columns(schema: Any, used: Collection[str]) -> str:
    """Return a note that names the columns that hold images, or are called like labels, images or parts, and are not used."""
    import pyarrow as pa

    def suspect(field: Any) -> bool:
        binary = pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
        words = re.split(r"[^a-z]+", field.name.lower())
        return binary or field.name.lower() in IMAGE + LABEL or any(w.removesuffix("s") in _SUSPECTS for w in words)

    found = [one_line(field.name) for field in schema if field.name not in used and suspect(field)]
    return f"columns not used: {', '.join(found)}" if found else ""


def files_beside(path: Path) -> str:
    """Return a note that counts the files beside ``path`` that look like other shards or parts of the same data."""
    own = _pattern(path.stem)
    others = sorted(
        p.name for p in path.absolute().parent.iterdir()
        if own and p.name != path.name and p.suffix.lower() == path.suffix.lower() and _pattern(p.stem) == own
    )  # fmt: skip
    more = f" and {len(others) - 1:,} more" if others[1:] else ""
    return (
        f"only {path.name} is read, not the other shards or parts beside it: {one_line(others[0])}{more}"
        if others
        else ""
    )


def _pattern(stem: str) -> str:
    """Return the name of a file with signs for its number of a shard and its part; "" for a name without those."""
    names = "|".join(sorted((name for role in ROLES.values() for name in role), key=len, reverse=True))
    text = re.sub(r"\d+-of-\d+|(?<=[-_.])\d+$", "<shard>", stem.lower())
    text = re.sub(rf"(?<![a-z])({names})(?![a-z])", "<part>", text)
    return text if "<" in text else ""


def array_parts(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the names (images, labels) of the training part and, if there is one, of the test part; and notes on the rest.

    ``arrays`` has names in lower case. Without a test part the validation part is tested on. Raises `OcheError` if there
    is no training part.
    """
    found: dict[str, tuple[str, str]] = {}
    for name in (n for role in ROLES.values() for n in role):
        pairs = [(x.format(name), y.format(name)) for x, y in _ARRAY_NAMES]
        if (pair := next(((x, y) for x, y in pairs if x in arrays and y in arrays), None)) is not None:
            found[name] = pair
    if not any(name in found for name in ROLES["train"]) and not (found and measured_classes() is not None):
        whole = next(((x, y) for x, y in _WHOLE if x in arrays and y in arrays), None)
        if whole is None:
            raise OcheError(
                f"{path} has arrays {', '.join(arrays) or '(none)'}; give x and y, or x_train, y_train, x_test, y_test"
            )
        found["train"] = whole
    secret = [n for n in found if n not in ROLES["train"] and not has_labels(np.ravel(arrays[found[n][1]]).tolist())]
    known = {name: len(np.atleast_1d(arrays[x])) for name, (x, _) in found.items() if name not in secret}
    train, test, note = choose_splits(known, str(path))
    notes = [without_labels({name: len(np.atleast_1d(arrays[found[name][0]])) for name in secret}), note]
    named = {key for pair in found.values() for key in pair}
    rest = [key for key in arrays if key not in named and key not in _FACTS]
    if rest:
        notes.append(f"arrays not used: {', '.join(map(one_line, rest))}")
    return [found[name] for name in (train, test) if name is not None], notes
