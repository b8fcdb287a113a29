"""Functions and dataclasses that check the types of their arguments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from oche.core.arguments import check_fields, checked
from oche.core.errors import OcheError

if TYPE_CHECKING:
    from nowhere import Unknown  # pyright: ignore[reportMissingImports]


@checked
def price(count: int, /, each: float = 1.0, *more: int, note: str = "", later: Unknown = None, **sizes: int) -> tuple:
    """What things cost."""
    return count, each, more, note, later, sizes


@checked
@dataclass(frozen=True)
class Parent:
    path: Path = Path("x")


@checked
@dataclass(frozen=True)
class Child(Parent):
    count: int = 1
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 0:
            raise OcheError(f"count={self.count} is negative")


class Shelf:
    @classmethod
    @checked
    def of(cls, count: int) -> tuple:
        return cls, count

    @checked
    def put(self, count: int) -> int:
        return count


def said(call, *args, **given) -> str:
    with pytest.raises(OcheError) as caught:
        call(*args, **given)
    return str(caught.value)


def test_arguments_arrive_in_the_form_to_be_used():
    assert price(np.int64(3), np.float32(0.5), 4, 5, note="a", big=6) == (3, 0.5, (4, 5), "a", None, {"big": 6})
    assert price.__name__ == "price" and price.__doc__ == "What things cost."


def test_a_wrong_argument_is_named_with_what_it_takes():
    assert said(price, "3") == "price takes an integer as count, found text '3'; write 3 without quotes"
    assert said(price, 3, each=None) == "price takes a number as each, found None"
    assert said(price, 3, 1.0, 2.5) == "price takes an integer as more, found float 2.5"
    assert said(price, 3, big="b") == "price takes an integer as big, found text 'b'"


def test_names_are_checked_too():
    assert said(price) == "price needs a value for count"
    assert said(price, 3, 1.0, each=2.0) == "price was given each twice, by its place and by its name; leave one out"
    assert said(Child, cuont=3) == "Child has no field 'cuont'; did you mean 'count'?"
    assert said(Child, zzz=3) == "Child has no field 'zzz'; it takes path, count, names"
    assert said(Child, 1, 2, 3, 4).startswith("Child takes 3 fields by their place (path, count, names), found 4")


def test_an_annotation_for_type_checkers_alone_checks_nothing():
    assert price(3, later=[1])[4] == [1]


def test_fields_are_checked_before_their_values_and_by_replace():
    made = Child("a/b", np.int32(2), ["c"])  # pyright: ignore[reportArgumentType]
    assert made == Child(Path("a/b"), 2, ("c",))
    assert said(Child, count="2") == "Child takes an integer as count, found text '2'; write 2 without quotes"
    assert said(replace, made, path=3) == "Child takes a path as path, found int 3"
    assert said(Child, count=-1) == "count=-1 is negative"


def test_methods_of_classes():
    assert Shelf.of(2) == (Shelf, 2) and Shelf().put(2) == 2
    assert said(Shelf.of, "2").startswith("Shelf.of takes an integer as count")
    assert said(Shelf().put, None).startswith("Shelf.put takes an integer as count")


def test_checking_twice_is_checking_once():
    assert checked(price) is price and checked(Child) is Child


def test_values_by_the_names_of_fields():
    assert check_fields(Child, {"names": ["a"], "path": "b"}) == {"names": ("a",), "path": Path("b")}
    assert "Child takes an integer as count" in said(check_fields, Child, {"count": 1.5})
