"""Check the types of arguments against annotations, so that a wrong one is an `OcheError` of one line.

`checked` decorates a function or a dataclass. Every argument is compared with its annotation when the function is called or
the value is made, before anything else happens. Equivalent forms are converted: NumPy's numbers to Python's, a list to a
tuple, text to a path. A bool is no number, and NaN is none either. An annotation that cannot be evaluated at run time (an
import for type checkers alone) checks nothing.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
import types
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from os import PathLike
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from oche.core.errors import OcheError, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])

_REFUSED: Any = object()  # a checker returns this for a value that it does not accept
Checker = Callable[[Any], Any]  # the value in the form to be used, or _REFUSED


def checked(target: F) -> F:
    """Return ``target``, a function or a dataclass, with its arguments checked. Raises `OcheError` when it is called.

    The error names the function, the argument, what it takes and what was given; see `short` for the latter.
    """
    if target.__dict__.get("__checked__"):
        return target
    if not isinstance(target, type):
        return _checking(target, target.__name__, "argument", 0, _own_space(target))  # pyright: ignore[reportReturnType]
    if (init := target.__dict__.get("__init__")) is not None:
        spaces = _spaces_of_fields(target) if is_dataclass(target) else _own_space(init)
        target.__init__ = _checking(init, target.__name__, "field", 1, spaces)
        target.__checked__ = True  # pyright: ignore[reportAttributeAccessIssue]
    return target


def check_fields(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values``, by the names of fields of the dataclass ``cls``, in the form to be used. Raises `OcheError`."""
    known = _annotations_of_fields(cls)
    return {name: known.accept(cls.__name__, name, value) for name, value in values.items()}


@functools.cache
def _annotations_of_fields(cls: type) -> _Annotations:
    return _Annotations({f.name: f.type for f in fields(cls)}, _spaces_of_fields(cls))


def _spaces_of_fields(cls: type) -> Callable[[str], dict[str, Any]]:
    """Return the function from the name of a field to the names that its annotation may use: those of its own module."""

    def of(name: str) -> dict[str, Any]:
        owner = next((base for base in cls.__mro__ if name in base.__dict__.get("__annotations__", {})), cls)
        return getattr(sys.modules.get(owner.__module__), "__dict__", {})

    return of


def _own_space(function: Callable[..., Any]) -> Callable[[str], dict[str, Any]]:
    return lambda _: getattr(function, "__globals__", {})


def _checking(
    call: Callable[..., Any], owner: str, noun: str, skipped: int, spaces: Callable[[str], dict[str, Any]]
) -> Callable[..., Any]:
    """Return ``call`` with its arguments checked. ``skipped``: arguments before the first that is checked, such as self."""
    parameters = [*inspect.signature(call).parameters.values()][skipped:]
    places = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    others = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    known = _Annotations({p.name: p.annotation for p in parameters}, spaces)

    def check_names(count: int, given: Mapping[str, Any]) -> None:
        """Raise `OcheError` for arguments that ``call`` does not have, or lacks. ``count``: arguments given by place."""
        if count > len(places) and rest is None:
            raise OcheError(
                f"{owner} takes {len(places)} {noun}s by their place ({', '.join(places) or 'none'}), found {count}; "
                "write the others by name"
            )
        for name in given:
            if name not in named and others is None:
                takes = f"; it takes {', '.join(p.name for p in parameters) or 'none'}"
                raise OcheError(f"{owner} has no {noun} {name!r}{did_you_mean(name, sorted(named)) or takes}")
            if name in places[:count]:
                raise OcheError(f"{owner} was given {name} twice, by its place and by its name; leave one out")
        if missing := [name for name in needed if name not in places[:count] and name not in given]:
            raise OcheError(f"{owner} needs {', '.join(missing)}")

    @functools.wraps(call)
    def wrapper(*args: Any, **given: Any) -> Any:
        positional = args[skipped:]
        check_names(len(positional), given)
        by_place = [
            known.accept(owner, places[i] if i < len(places) else str(rest), value) for i, value in enumerate(positional)
        ]
        by_name = {
            name: known.accept(owner, name if name in named else str(others), value, name)
            for name, value in given.items()
        }
        return call(*args[:skipped], *by_place, **by_name)

    wrapper.__checked__ = True  # pyright: ignore[reportAttributeAccessIssue]
    return wrapper


class _Annotations:
    """The annotations of the arguments of one function, each made into a checker at its first use."""

    def __init__(self, annotations: Mapping[str, Any], spaces: Callable[[str], dict[str, Any]]) -> None:
        """``spaces``: function from the name of an argument to the names that its annotation may use."""
        self.annotations, self.spaces = annotations, spaces
        self.checkers: dict[str, tuple[Checker, Any]] = {}

    def accept(self, owner: str, name: str, value: Any, shown: str = "") -> Any:
        """Return ``value`` for the argument ``name`` in the form to be used. Raises `OcheError`."""
        found = self.checkers.get(name)
        if found is None:
            try:
                annotation = self._evaluated(name)
                found = self.checkers[name] = _checker(annotation), annotation
            except (NameError, TypeError, AttributeError):  # a name for type checkers alone, or of further below
                return value
        check, annotation = found
        ready = check(value)
        if ready is _REFUSED:
            raise OcheError(
                f"{owner} takes {expected(annotation)} as {shown or name}, found {short(value)}{_hint(annotation, value)}"
            )
        return ready

    def _evaluated(self, name: str) -> Any:
        annotation = self.annotations[name]
        if annotation is inspect.Parameter.empty:
            return Any
        return eval(annotation, self.spaces(name)) if isinstance(annotation, str) else annotation


# --- checkers of annotations ------------------------------------------------------------------------------------------


def _checker(annotation: Any) -> Checker:
    """Return the checker of values for ``annotation``."""
    members = _members(annotation)
    if any(_is_open(m) for m in members):
        return lambda value: value
    ordered = sorted(members, key=lambda m: m is Path)  # text stays text where both are accepted
    checks = [_member_checker(m) for m in ordered]
    if len(checks) == 1:
        return checks[0]

    def any_of(value: Any) -> Any:
        for check in checks:
            if (ready := check(value)) is not _REFUSED:
                return ready
        return _REFUSED

    return any_of


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union; `Annotated` and aliases are looked through."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(inner for member in get_args(annotation) for inner in _members(member))
    return (types.NoneType if annotation is None else annotation,)


def _is_open(member: Any) -> bool:
    """Whether every value is accepted: Any, object, type variables, and forms that are not checked."""
    return member in (Any, object) or not (isinstance(member, type) or get_origin(member) in _OF_ORIGIN)


def _member_checker(member: Any) -> Checker:
    if (origin := get_origin(member)) in _OF_ORIGIN:
        return _OF_ORIGIN[origin](get_args(member))
    if member in _SCALARS:
        return _SCALARS[member]
    if getattr(member, "_is_protocol", False):
        names = [n for base in member.__mro__ for n in {**base.__dict__, **base.__dict__.get("__annotations__", {})}]
        wanted = {n for n in names if not n.startswith("_")}
        return lambda value: value if not isinstance(value, type) and all(hasattr(value, n) for n in wanted) else _REFUSED
    return lambda value: value if isinstance(value, member) else _REFUSED


def _none(value: Any) -> Any:
    return None if value is None else _REFUSED


def _is_numpy_bool(value: Any) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_")


def _bool(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    return bool(value) if _is_numpy_bool(value) else _REFUSED


def _int(value: Any) -> Any:
    if type(value) is int:
        return value
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else _REFUSED


def _float(value: Any) -> Any:
    if type(value) is float:
        return _REFUSED if value != value else value
    if isinstance(value, bool) or not isinstance(value, Real):
        return _REFUSED
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return _REFUSED
    if math.isnan(number):
        return _REFUSED
    return int(value) if isinstance(value, Integral) else number


def _str(value: Any) -> Any:
    if type(value) is str:
        return value
    return str(value) if isinstance(value, str) else _REFUSED


def _path(value: Any) -> Any:
    if isinstance(value, Path):
        return _REFUSED if "\0" in str(value) else value
    if not isinstance(value, str | PathLike):
        return _REFUSED
    text = value if isinstance(value, str) else value.__fspath__()
    return Path(text) if isinstance(text, str) and "\0" not in text else _REFUSED


def _literal(values: tuple[Any, ...]) -> Checker:
    def check(value: Any) -> Any:
        if isinstance(value, Integral) and not isinstance(value, bool):
            value = int(value)
        return next((v for v in values if type(v) is type(value) and v == value), _REFUSED)

    return check


def _tuple(inner: tuple[Any, ...]) -> Checker:
    if not inner or inner == ((),):
        return lambda value: tuple(value) if isinstance(value, list | tuple | range) else _REFUSED
    endless = inner[-1] is Ellipsis
    checks = [_checker(a) for a in (inner[:1] if endless else inner)]

    def check(value: Any) -> Any:
        if not isinstance(value, list | tuple | range) or not (endless or len(value) == len(checks)):
            return _REFUSED
        ready = tuple(checks[0 if endless else i](v) for i, v in enumerate(value))
        if any(v is _REFUSED for v in ready):
            return _REFUSED
        return value if type(value) is tuple and all(a is b for a, b in zip(ready, value, strict=True)) else ready

    return check


def _sequence(inner: tuple[Any, ...]) -> Checker:
    check_one = _checker(inner[0] if inner else Any)

    def check(value: Any) -> Any:
        if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Sequence):
            return _REFUSED
        ready = [check_one(v) for v in value]
        if any(v is _REFUSED for v in ready):
            return _REFUSED
        return value if all(a is b for a, b in zip(ready, value, strict=True)) else ready

    return check


def _list(inner: tuple[Any, ...]) -> Checker:
    check_sequence = _sequence(inner)
    return lambda value: check_sequence(value) if isinstance(value, list) else _REFUSED


def _mapping(inner: tuple[Any, ...]) -> Checker:
    check_key, check_value = map(_checker, inner or (Any, Any))

    def check(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return _REFUSED
        ready = {check_key(k): check_value(v) for k, v in value.items()}
        if any(k is _REFUSED or v is _REFUSED for k, v in ready.items()):
            return _REFUSED
        return value if all(ready.get(k) is v for k, v in value.items()) else ready

    return check


def _iterable(inner: tuple[Any, ...]) -> Checker:
    return lambda value: value if hasattr(value, "__iter__") and not isinstance(value, str | bytes) else _REFUSED


def _callable(inner: tuple[Any, ...]) -> Checker:
    return lambda value: value if callable(value) else _REFUSED


def _type(inner: tuple[Any, ...]) -> Checker:
    base = inner[0] if inner and isinstance(inner[0], type) else object
    return lambda value: value if isinstance(value, type) and issubclass(value, base) else _REFUSED


_SCALARS: dict[Any, Checker] = {
    types.NoneType: _none, bool: _bool, int: _int, float: _float, str: _str, Path: _path, PurePath: _path,
    tuple: _tuple(()), list: _list(()), dict: _mapping(()), type: _type(()),
}  # fmt: skip

_OF_ORIGIN: dict[Any, Callable[[tuple[Any, ...]], Checker]] = {
    Literal: _literal, tuple: _tuple, list: _list, dict: _mapping, type: _type, abc.Callable: _callable,
    abc.Sequence: _sequence, abc.Collection: _sequence, abc.Mapping: _mapping, abc.MutableMapping: _mapping,
    abc.Iterable: _iterable, abc.Iterator: _iterable,
}  # fmt: skip


# --- words for messages -----------------------------------------------------------------------------------------------

_WORDS: dict[Any, str] = {
    types.NoneType: "None", bool: "True or False", int: "an integer", float: "a number", str: "text", Path: "a path",
    PurePath: "a path", tuple: "a tuple", list: "a list", dict: "a dictionary", type: "a class",
}  # fmt: skip
_SHOWN = 40  # characters of a value, and of its name
_NAMED = 8  # subclasses that a message names


def expected(annotation: Any) -> str:
    """Return the values that ``annotation`` allows, in words."""
    return " or ".join(dict.fromkeys(map(_words, _members(annotation))))


def _words(member: Any) -> str:
    origin, inner = get_origin(member), get_args(member)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inner)) if len(inner) > 1 else repr(inner[0])
    if origin is tuple:
        if inner[-1:] == (Ellipsis,):
            return f"a tuple, each element {expected(inner[0])}"
        return f"a tuple of {len(inner)} ({', '.join(map(expected, inner))})"
    if origin is type:
        return f"a class ({getattr(inner[0], '__name__', inner[0])})"
    if origin in _OF_ORIGIN:
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
    """Return the names of the public dataclasses that are kinds of ``base``, which itself is made for them."""
    if not is_dataclass(base):
        return []
    found = [sub for sub in base.__subclasses__() if sub.__module__.startswith("oche.")]
    names = [n for sub in found for n in ([sub.__name__] if not sub.__subclasses__() else [sub.__name__, *_kinds(sub)])]
    return [n for n in dict.fromkeys(names) if not n.startswith("_")]


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
    if isinstance(value, bool | float | complex | Integral) or _is_numpy_bool(value):
        return f"{kind} {value}"[: 2 * _SHOWN] if not isinstance(value, int) or abs(value) < 10**_SHOWN else f"a huge {kind}"
    if isinstance(value, str | bytes | PurePath):
        text = repr(value[: _SHOWN + 1]) if not isinstance(value, PurePath) else repr(str(value)[: _SHOWN + 1])
        name = {"str": "text"}.get(kind, "a path" if isinstance(value, PurePath) else kind)
        return f"{name} {text}" if len(value if isinstance(value, str | bytes) else str(value)) <= _SHOWN else (
            f"{name} {text[: _SHOWN + 1]}…"
        )  # fmt: skip
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


def _hint(annotation: Any, value: Any) -> str:
    """Return "; call it: X()" for a class or function in place of its result, a close word for one of several, or ""."""
    members = _members(annotation)
    classes = tuple(m for m in members if isinstance(m, type) and m not in _SCALARS)
    if isinstance(value, type) and classes and issubclass(value, classes):
        return f"; write {value.__name__}()"
    if isinstance(value, types.FunctionType) and classes and value.__name__.isidentifier():
        return f"; call it: {value.__name__}()"
    words = [v for m in members if get_origin(m) is Literal for v in get_args(m) if isinstance(v, str)]
    if isinstance(value, str) and words:
        return did_you_mean(value, words)
    if isinstance(value, str) and {int, float} & {*members}:
        try:
            return f"; write {float(value):g} without quotes" if math.isfinite(float(value)) else ""
        except ValueError:
            return ""
    return ""
