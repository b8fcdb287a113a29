"""The words of messages for types and values."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from checked_classes import Base, Kind
from oche.core.annotation_words import expected, hint, short
from oche.core.annotations import checker


class Box:
    pass


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "an integer or None"),
        (Literal["a", "b"], "one of 'a', 'b'"),
        (tuple[int, ...], "a tuple, each element an integer"),
        (tuple[int, float], "a tuple of 2 (an integer, a number)"),
        (str | Path, "text or a path"),
        (Base, "a Base (Kind)"),
        (Sequence[str], "a sequence, each element text"),
        (Mapping[str, int], "a mapping"),
        (Callable[[], None], "a function"),
        (type[Base], "a class (Base)"),
    ],
)
def test_annotations_in_words(annotation, words):
    assert expected(annotation) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "None"),
        (True, "bool True"),
        (3, "int 3"),
        (10**400, "a huge int"),
        (0.5, "float 0.5"),
        (np.float32(0.5), "float32 0.5"),
        ("abc", "text 'abc'"),
        ("x" * 999, f"text '{'x' * 40}'…"),
        (b"abc", "bytes b'abc'"),
        (Path("a/b"), "a path 'a/b'"),
        (torch.zeros(3, 1000), "Tensor of shape (3, 1000) and type float32"),
        (np.zeros((3, 1000)), "ndarray of shape (3, 1000) and type float64"),
        ([1, "a"] * 999, "list of 1998 (int, str)"),
        ({}, "dict of 0"),
        (Kind, "the class Kind"),
        (checker, "the function checker"),
        (types, "the module types"),
        (Box(), "an object of class Box"),
    ],
)
def test_values_in_words_are_short(value, words):
    assert short(value) == words


def test_hints_say_what_to_write():
    assert hint(Base, Kind) == "; write Kind()"
    assert hint(Base, "Kind") == "; write Kind()"
    assert hint(Base, checker) == "; call it: checker()"
    assert hint(int | None, "3") == "; write 3 without quotes"
    assert hint(Literal["warn", "stop"], "wanr") == "; did you mean 'warn'?"
    assert hint(int, "many") == "" and hint(Base, 3) == ""
