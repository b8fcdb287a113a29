"""The words that messages use for types and values: what an annotation allows, what was given, what to write instead."""

from __future__ import annotations

import math
import types
from dataclasses import is_dataclass
from numbers import Real
from pathlib import Path, PurePath
from typing import Any, Literal, get_args, get_origin

from oche.core.annotations import OF_ORIGIN, SCALARS, is_numpy_bool, members_of
from oche.core.errors import did_you_mean

_WORDS: dict[Any, str] = {
    types.NoneType: "None", bool: "True or False", int: "an integer", float: "a number", str: "text", Path: "a path",
    PurePath: "a path", tuple: "a tuple", list: "a list", dict: "a dictionary", type: "a class",
}  # fmt: skip
_SHOWN = 40  # characters of a value, and of its name
_NAMED = 8  # subclasses that a message names


def expected(annotation: Any) -> str:
    """Return the values that ``annotation`` allows, in words."""
    return " or ".join(dict.fromkeys(map(_words, members_of(annotation))))


def _words(member: Any) -> str:
    origin, inner = get_origin(member), get_args(member)
    if origin is Literal:
        return ("one of " if len(inner) > 1 else "") + ", ".join(map(repr, inner))
    if origin is tuple:
        if inner and inner[-1] is Ellipsis:
            return f"a tuple, each element {expected(inner[0])}"
        return f"a tuple of {len(inner)} ({', '.join(map(expected, inner))})"
    if origin is type:
        return f"a class ({getattr(inner[0], '__name__', inner[0])})"
    if origin in OF_ORIGIN:
        name = {"Callable": "a function", "Mapping": "a mapping", "MutableMapping": "a mapping", "dict": "a dictionary"}
        found = name.get(origin.__name__, f"a {origin.__name__.lower()}")
        if origin.__name__ in ("Sequence", "Collection", "list", "Iterable") and inner:
            return f"{found}, each element {expected(inner[0])}"
        return found
    if member in _WORDS:
        return _WORDS[member]
    title = member.__name__
    article = "an" if title[:1] in "AEIOU" else "a"
    kinds = [] if getattr(member, "_is_protocol", False) else _kinds(member)
    more = f" ({', '.join(kinds[:_NAMED])}{', …' if len(kinds) > _NAMED else ''})" if kinds else ""
    return f"{article} {title}{more}"


def _kinds(base: type) -> list[str]:
    """Return the names of the checked dataclasses below ``base``."""
    if not is_dataclass(base):
        return []
    names = [n for sub in base.__subclasses__() for n in (sub.__name__ * ("__checked__" in sub.__dict__), *_kinds(sub))]
    return [*filter(None, dict.fromkeys(names))]


def short(value: Any) -> str:
    """Return the type of ``value`` and what a line can say of it; never the contents of a tensor, an array or a file."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__[:_SHOWN]}"
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        return f"the function {value.__name__[:_SHOWN]}"
    if isinstance(value, types.ModuleType):
        return f"the module {value.__name__[:_SHOWN]}"
    kind = type(value).__name__
    if isinstance(value, bool | complex | Real) or is_numpy_bool(value):
        return (
            f"{kind} {value}"[: 2 * _SHOWN]
            if not isinstance(value, int) or abs(value) < 10**_SHOWN
            else f"a huge {kind}"
        )
    if isinstance(value, str | bytes | PurePath):
        plain = str(value) if isinstance(value, PurePath) else value
        name = "a path" if isinstance(value, PurePath) else "text" if isinstance(value, str) else kind
        return f"{name} {plain[:_SHOWN]!r}{'…' * (len(plain) > _SHOWN)}"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        return f"{kind} of shape {tuple(shape)} and type {str(dtype).removeprefix('torch.')}"
    if isinstance(value, dict | list | tuple | set | frozenset):
        return f"{kind} of {len(value)}" + _inside(value)
    return kind if kind == "NoneType" else f"an object of class {kind[:_SHOWN]}"


def _inside(value: Any) -> str:
    """Return the kinds of the elements of a small collection."""
    kinds = list(dict.fromkeys(type(v).__name__ for v in list(value)[:_NAMED]))
    return f" ({', '.join(kinds[:3])}{', …' if len(kinds) > 3 else ''})" if kinds else ""


def hint(annotation: Any, value: Any) -> str:
    """Return "; call it: X()" for a class or function in place of its result, a close word for one of several, or ""."""
    members = members_of(annotation)
    classes = tuple(m for m in members if isinstance(m, type) and m not in SCALARS)
    if isinstance(value, type) and classes and issubclass(value, classes):
        return f"; write {value.__name__}()"
    if isinstance(value, types.FunctionType) and classes and value.__name__.isidentifier():
        return f"; call it: {value.__name__}()"
    if isinstance(value, str) and value in [name for m in classes for name in (m.__name__, *_kinds(m))]:
        return f"; write {value}()"
    words = [v for m in members if get_origin(m) is Literal for v in get_args(m) if isinstance(v, str)]
    if isinstance(value, str) and words:
        return did_you_mean(value, words)
    if isinstance(value, str) and {int, float} & {*members}:
        try:
            return f"; write {float(value):g} without quotes" if math.isfinite(float(value)) else ""
        except ValueError:
            return ""
    return ""
