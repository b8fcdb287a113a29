"""Values compared with annotations, and the words for both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Optional, Protocol, TypeVar

import numpy as np
import pytest
import torch

from checked_classes import Base, Kind
from oche.core.annotations import REFUSED, checker


class Sized(Protocol):
    size: int

    def grow(self) -> None: ...


class Box:
    size = 3

    def grow(self) -> None: ...


@pytest.mark.parametrize(
    ("annotation", "value", "ready"),
    [
        (int, 3, 3),
        (int, np.int64(3), 3),
        (float, 3, 3),
        (float, 0.5, 0.5),
        (float, np.float32(0.5), 0.5),
        (float, Fraction(1, 4), 0.25),
        (float, float("inf"), float("inf")),
        (bool, np.bool_(True), True),
        (str, np.str_("a"), "a"),
        (Path, "a/b", Path("a/b")),
        (Path, PurePosixPath("a/b"), Path("a/b")),
        (str | Path, "a/b", "a/b"),
        (str | Path, Path("a/b"), Path("a/b")),
        (str | Path, f"Genotype({'x' * 5000})", f"Genotype({'x' * 5000})"),
        (int | None, None, None),
        (Optional[int], 4, 4),  # noqa: UP045
        (Annotated[int, "units"], 4, 4),
        (Literal["a", 1], 1, 1),
        (Literal[1, 2], np.int32(2), 2),
        (tuple[int, ...], [1, np.int64(2)], (1, 2)),
        (tuple[int, ...], range(3), (0, 1, 2)),
        (tuple[int, float], (1, 2.5), (1, 2.5)),
        (tuple[tuple[str, int], ...], [["a", 1]], (("a", 1),)),
        (list[int], [1, 2], [1, 2]),
        (Sequence[float], (1.0, 2), (1.0, 2)),
        (Mapping[str, int], {"a": np.int64(1)}, {"a": 1}),
        (dict[str, Any], {"a": object}, {"a": object}),
        (type[Base], Kind, Kind),
        (Any, torch, torch),
        (TypeVar("T"), 3, 3),
        (Base, kind := Kind(), kind),
        (Sized, box := Box(), box),
        (Callable[[int], int], abs, abs),
        (Iterable[int], word := [1], word),
    ],
)
def test_a_value_that_fits_is_returned_in_the_form_to_be_used(annotation, value, ready):
    found = checker(annotation)(value)
    assert found == ready and type(found) is type(ready)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, True),
        (int, 3.0),
        (int, "3"),
        (int, 10**400),
        (int, torch.tensor(3)),
        (int, np.array(3)),
        (float, float("nan")),
        (float, np.float64("nan")),
        (float, True),
        (float, 10**400),
        (float, 1j),
        (bool, 1),
        (bool, "true"),
        (str, b"a"),
        (str, Path("a")),
        (Path, "a\0b"),
        (Path, "x" * 300),
        (Path, "\ud800" * 200),
        (Path, b"a"),
        (str | Path, "x" * 300),
        (str | Path, 3),
        (Literal["a", "b"], "c"),
        (Literal[1, 2], True),
        (Literal[1, 2], 1.0),
        (tuple[int, ...], 3),
        (tuple[int, ...], [1, "a"]),
        (tuple[int, int], (1, 2, 3)),
        (tuple[int, ...], np.arange(3)),
        (tuple[str, ...], "abc"),
        (Sequence[str], "abc"),
        (list[int], (1,)),
        (Mapping[str, int], {"a": "b"}),
        (Mapping[str, int], [("a", 1)]),
        (type[Base], Box),
        (type[Base], Kind()),
        (Base, Kind),
        (Base, None),
        (Sized, Box),
        (Sized, 3),
        (Callable[[int], int], 3),
    ],
)
def test_a_value_that_does_not_fit_is_refused(annotation, value):
    assert checker(annotation)(value) is REFUSED
