"""Labels as they are stored, turned into class numbers. What is no class is refused, with the number of such rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oche.core.errors import OcheError
from oche.data.readers.measuring import measured_classes

_TYPES = (str, int, float, type(None))
_ABSENT = ("nan", "NaN", "<NA>", "NaT")  # missing values that a table's package wrote as text
_UNKNOWN = -1  # the usual number of images whose class is not published


def encode_labels(
    values: np.ndarray,
    train: np.ndarray,
    test: np.ndarray | None,
    names: tuple[str, ...] | None,
    row: Callable[[int], str],
) -> tuple[Tensor, tuple[str, ...]]:
    """Return the labels as class numbers (N,) int64, and the class names.

    ``values`` (N,) are integers or strings; ``train`` and ``test`` are rows of it. ``names`` are the class names, if
    known; otherwise the distinct training values in order are the classes. ``row(i)`` is the name of row i in errors.
    Rows in neither part get class 0.

    Raises `OcheError` for labels that are missing, negative (unless −1 and 1 are the classes) or fractional, also as text,
    for unknown labels and those of different types, for fewer than two classes, and for a class without training images
    (the last two not of data to be measured).
    """
    listed = values.tolist()
    used = [*train.tolist(), *(() if test is None else test.tolist())]
    _check_types(listed, used, row)
    _check_names(names)
    known = _class_numbers(listed, train, names)
    _check_values(listed, used, row, names, known)
    codes = torch.zeros(len(listed), dtype=torch.int64)
    codes[used] = torch.tensor([known[listed[i]] for i in used], dtype=torch.int64)
    classes = tuple(str(v) for v in known) if names is None else names
    if measured_classes() is not None:
        return codes, classes
    if len(classes) < 2:
        raise OcheError(
            f"{row(int(train[0]))} and all others are of one class, {', '.join(classes)!r}; give at least 2 classes"
        )
    empty = torch.bincount(codes[torch.from_numpy(train)], minlength=len(classes)).eq(0).nonzero().flatten().tolist()
    if empty:
        raise OcheError(f"class {classes[empty[0]]!r} has no training image ({row(int(train[0]))} and following)")
    return codes, classes


def has_labels(values: Iterable[Any]) -> bool:
    """Tell whether any of ``values`` is a label: neither missing nor −1, the usual number of unpublished labels."""
    return any(not _is_missing(v) and v not in (_UNKNOWN, str(_UNKNOWN)) for v in values)


def label_notes(classes: Sequence[str]) -> list[str]:
    """Return a line for each oddity of the class names: names that hardly differ, words among numbers, −1 and 1."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    notes = [
        f"classes {' and '.join(map(repr, names))} differ in case or spaces alone"
        for names in alike.values()
        if names[1:]
    ]
    numbers = [name for name in classes if _number(name) is not None]
    words = [name for name in classes if _number(name) is None]
    if numbers and words and not all(len(name.strip()) == 1 for name in classes):  # digits and letters are signs
        notes.append(f"class names are words and numbers, such as {words[0]!r} and {numbers[0]!r}")
    if sorted(classes) == ["-1", "1"]:
        notes.append("labels -1 and 1 are two classes")
    return notes


def _check_types(listed: list, used: list[int], row: Callable[[int], str]) -> None:
    """Raise `OcheError` for labels that are missing, or no text or number, or of different types."""
    kinds: dict[type, int] = {}
    absent = [i for i in used if _is_missing(listed[i])]
    if absent:
        what = "" if listed[absent[0]] is None else f" ({listed[absent[0]]!r})"
        more = f", nor {_has(len(absent) - 1)}" if absent[1:] else ""
        raise OcheError(f"{row(absent[0])} has no label{what}{more}; give each a label or remove the row")
    for i in used:
        kind = float if type(listed[i]) is int else type(listed[i])
        kinds.setdefault(kind, i)
    if (odd := next((i for i in kinds.values() if not isinstance(listed[i], _TYPES)), None)) is not None:
        raise OcheError(f"{row(odd)} has a label of type {type(listed[odd]).__name__}; give integers or strings")
    if len(kinds) > 1:
        first, other = list(kinds.values())[:2]
        raise OcheError(
            f"{row(other)} has label {listed[other]!r} and {row(first)} {listed[first]!r}, of another type; make all labels "
            "text or all numbers"
        )


def _has(count: int) -> str:
    return "has 1 more row" if count == 1 else f"have {count:,} more rows"


def _check_names(names: tuple[str, ...] | None) -> None:
    """Raise `OcheError` for a name that two classes have."""
    twice = next((name for i, name in enumerate(names or ()) if name in (names or ())[:i]), None)
    if twice is not None:
        raise OcheError(f"two classes are called {twice!r}; give each class a name of its own")


def _check_values(
    listed: list, used: list[int], row: Callable[[int], str], names: tuple[str, ...] | None, known: dict
) -> None:
    """Raise `OcheError` for numbers that are no class: fractional, negative, or of no class."""
    # Text that says a number is one, unless the names of the classes are given.
    told = [i for i in used if names is None or not isinstance(listed[i], str)]
    numbers = {i: n for i in told if (n := _number(listed[i])) is not None}
    fractional = [i for i, n in numbers.items() if n != n // 1]
    if fractional:
        raise _no_class(
            listed, fractional, row, "which is not whole; number the classes 0, 1, 2 ... or name them by text"
        )
    unknown = [i for i in used if listed[i] not in known]
    if unknown:
        allowed = (
            f"the {len(names)} classes allow" if names is not None else "which no training image has; training has"
        )
        values = f"{allowed} {_first_values([*known])}"
        hint = _hint(names, [listed[i] for i in used])
        joint = ";" if names is not None else ","
        raise OcheError(f"{row(unknown[0])} has label {listed[unknown[0]]!r}{_also(unknown)}{joint} {values}{hint}")
    negative = [i for i, n in numbers.items() if n < 0]
    if negative and (len(numbers) < len(used) or set(numbers.values()) != {-1, 1}):
        raise _no_class(
            listed, negative, row, "which mostly means that the class is not known; remove such rows, or number from 0"
        )


def _no_class(listed: list, rows: list[int], row: Callable[[int], str], why: str) -> OcheError:
    return OcheError(f"{row(rows[0])} has label {listed[rows[0]]!r}{_also(rows)}, {why}")


def _also(rows: list[int]) -> str:
    return f" (and {len(rows) - 1:,} more like it)" if rows[1:] else ""


def _hint(names: tuple[str, ...] | None, values: list) -> str:
    """Return what to do if the labels are 1 to K for K ``names``."""
    starts_at_one = (
        names is not None and not isinstance(values[0], str) and min(values) == 1 and max(values) == len(names)
    )
    return "; labels start at 0: subtract 1" if starts_at_one else ""


def _class_numbers(listed: list, train: np.ndarray, names: tuple[str, ...] | None) -> dict:
    """Return the class number of each label value."""
    if not len(train):
        return {}
    first = listed[int(train[0])]
    if names is None:
        return {v: k for k, v in enumerate(sorted({listed[i] for i in train.tolist()}))}
    return {name if isinstance(first, str) else k: k for k, name in enumerate(names)}


def _is_missing(value: Any) -> bool:
    """Tell whether ``value`` stands for no label: None, a number that is none, pandas' NA and NaT, empty text."""
    if isinstance(value, str):
        return not value.strip() or value in _ABSENT
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _number(value: Any) -> float | None:
    """Return the number that ``value`` is, or that it says as text; None for words, True and False."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return float(value) if re.fullmatch(r"\s*[+-]?(\d+(\.\d+)?|inf)\s*", value) else None
    return value if isinstance(value, int | float) else None


def _first_values(values: list) -> str:
    """Return ``values`` as text, or the first and the last of more than eight."""
    return f"{values[0]} to {values[-1]}" if len(values) > 8 else ", ".join(map(str, values))
