"""The values that annotations allow, checked at run time. `oche.core.annotation_words` has the words for messages.

`oche.core.config.type_hints` does the same for text of files and command lines.
"""

from __future__ import annotations

import math
import os
import types
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from inspect import get_annotations
from numbers import Integral, Real
from os import PathLike
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

REFUSED: Any = object()  # a checker returns this for a value that it does not accept
Checker = Callable[[Any], Any]  # the value in the form to be used, or REFUSED


def checker(annotation: Any, strict: bool = True) -> Checker:
    """Return the checker of values for ``annotation``. If not ``strict``, a literal may be any of its type, a number NaN."""
    members = members_of(annotation)
    if any(_is_open(m) for m in members):
        return lambda value: value
    if str in members and Path in members:  # text stays text where both are accepted
        checks = [_place, *(_member_checker(m, strict) for m in members if m not in (str, Path))]
    else:
        checks = [_member_checker(m, strict) for m in members]
    return _any_of(checks)


def _any_of(checks: list[Checker]) -> Checker:
    if len(checks) == 1:
        return checks[0]

    def check(value: Any) -> Any:
        for one in checks:
            if (ready := one(value)) is not REFUSED:
                return ready
        return REFUSED

    return check


def members_of(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union; `Annotated` and aliases are looked through."""
    if get_origin(annotation) is Annotated:
        return members_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(inner for member in get_args(annotation) for inner in members_of(member))
    return (types.NoneType if annotation is None else annotation,)


def _is_open(member: Any) -> bool:
    """Whether every value is accepted: Any, object, type variables, and forms that are not checked."""
    return member in (Any, object) or not (isinstance(member, type) or get_origin(member) in OF_ORIGIN)


def _member_checker(member: Any, strict: bool) -> Checker:
    if (origin := get_origin(member)) in OF_ORIGIN:
        return OF_ORIGIN[origin](get_args(member), strict)
    if member is float and not strict:
        return lambda value: value if isinstance(value, float) and math.isnan(value) else _float(value)
    if member in SCALARS:
        return SCALARS[member]
    if getattr(member, "_is_protocol", False):
        names = [n for base in member.__mro__ for n in {**base.__dict__, **get_annotations(base)}]
        wanted = {n for n in names if not n.startswith("_")}
        return lambda value: (
            value if not isinstance(value, type) and all(hasattr(value, n) for n in wanted) else REFUSED
        )
    return lambda value: value if isinstance(value, member) else REFUSED


_HUGE = 1 << 1024  # no float holds it, and Python does not print numbers of some thousand digits


def _none(value: Any) -> Any:
    return None if value is None else REFUSED


def is_numpy_bool(value: Any) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_")


def _bool(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    return bool(value) if is_numpy_bool(value) else REFUSED


def _int(value: Any) -> Any:
    if type(value) is int:
        return value if -_HUGE < value < _HUGE else REFUSED
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else REFUSED


def _float(value: Any) -> Any:
    if type(value) is float:
        return REFUSED if value != value else value
    if isinstance(value, bool) or not isinstance(value, Real):
        return REFUSED
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return REFUSED
    if math.isnan(number):
        return REFUSED
    return int(value) if isinstance(value, Integral) else number


def _str(value: Any) -> Any:
    if type(value) is str:
        return value
    return str(value) if isinstance(value, str) else REFUSED


def _path(value: Any) -> Any:
    text = value if isinstance(value, str) else value.__fspath__() if isinstance(value, PathLike) else None
    if not isinstance(text, str) or not can_name_file(text):
        return REFUSED
    return value if isinstance(value, Path) else Path(text)


def can_name_file(text: str) -> bool:
    """Whether a file can be called ``text``. Else systems raise an error even when they are asked whether it is there."""
    sizes = [len(name.encode("utf-8", "surrogatepass")) for name in text.split(os.sep)]
    return "\0" not in text and max(sizes) <= 255 and sum(sizes) + len(sizes) <= 4096


def _place(value: Any) -> Any:
    """Check text or a path; text may be that of a genotype, which is longer than a name of a file can be."""
    if isinstance(value, str) and ("(" in value or "|" in value) and "\0" not in value:
        return str(value)
    ready = _path(value)
    return _str(value) if ready is not REFUSED and isinstance(value, str) else ready


def _literal(values: tuple[Any, ...], strict: bool) -> Checker:
    if not strict:
        return _any_of([_member_checker(kind, strict) for kind in {type(v) for v in values}])

    def check(value: Any) -> Any:
        if isinstance(value, Integral) and not isinstance(value, bool):
            value = int(value)
        return next((v for v in values if type(v) is type(value) and v == value), REFUSED)

    return check


def _tuple(inner: tuple[Any, ...], strict: bool) -> Checker:
    if not inner or inner == ((),):
        return lambda value: tuple(value) if isinstance(value, list | tuple | range) else REFUSED
    endless = inner[-1] is Ellipsis
    checks = [checker(a, strict) for a in (inner[:1] if endless else inner)]

    def check(value: Any) -> Any:
        if not isinstance(value, list | tuple | range) or not (endless or len(value) == len(checks)):
            return REFUSED
        ready = tuple(checks[0 if endless else i](v) for i, v in enumerate(value))
        if any(v is REFUSED for v in ready):
            return REFUSED
        return value if type(value) is tuple and all(a is b for a, b in zip(ready, value, strict=True)) else ready

    return check


def _sequence(inner: tuple[Any, ...], strict: bool) -> Checker:
    check_one = checker(inner[0] if inner else Any, strict)

    def check(value: Any) -> Any:
        if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Sequence):
            return REFUSED
        ready = [check_one(v) for v in value]
        if any(v is REFUSED for v in ready):
            return REFUSED
        return value if all(a is b for a, b in zip(ready, value, strict=True)) else ready

    return check


def _list(inner: tuple[Any, ...], strict: bool) -> Checker:
    check_sequence = _sequence(inner, strict)
    return lambda value: check_sequence(value) if isinstance(value, list) else REFUSED


def _mapping(inner: tuple[Any, ...], strict: bool) -> Checker:
    check_key, check_value = (checker(a, strict) for a in inner or (Any, Any))

    def check(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return REFUSED
        ready = {check_key(k): check_value(v) for k, v in value.items()}
        if any(k is REFUSED or v is REFUSED for k, v in ready.items()):
            return REFUSED
        return value if all(ready.get(k) is v for k, v in value.items()) else ready

    return check


def _iterable(inner: tuple[Any, ...], strict: bool) -> Checker:
    return lambda value: value if hasattr(value, "__iter__") and not isinstance(value, str | bytes) else REFUSED


def _callable(inner: tuple[Any, ...], strict: bool) -> Checker:
    return lambda value: value if callable(value) else REFUSED


def _type(inner: tuple[Any, ...], strict: bool) -> Checker:
    base = inner[0] if inner and isinstance(inner[0], type) else object
    return lambda value: value if isinstance(value, type) and issubclass(value, base) else REFUSED


SCALARS: dict[Any, Checker] = {
    types.NoneType: _none, bool: _bool, int: _int, float: _float, str: _str, Path: _path, PurePath: _path,
    tuple: _tuple((), True), list: _list((), True), dict: _mapping((), True), type: _type((), True),
}  # fmt: skip

OF_ORIGIN: dict[Any, Callable[[tuple[Any, ...], bool], Checker]] = {
    Literal: _literal, tuple: _tuple, list: _list, dict: _mapping, type: _type, abc.Callable: _callable,
    abc.Sequence: _sequence, abc.Collection: _sequence, abc.Mapping: _mapping, abc.MutableMapping: _mapping,
    abc.Iterable: _iterable, abc.Iterator: _iterable,
}  # fmt: skip
