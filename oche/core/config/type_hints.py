"""What the annotations of a configuration's fields allow, and how messages name it."""

from __future__ import annotations

import types
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from oche.core.registry import COMPONENTS

NONE = type(None)
_SCALARS = {bool: "true or false", int: "an integer", float: "a number", str: "text", Path: "a path"}


@dataclass(frozen=True)
class Place:
    """Where a value stands, for messages: a dotted key of ``file``, or an option where ``file`` is None."""

    file: str | None
    path: tuple[str, ...] = ()

    def __truediv__(self, name: object) -> Place:
        return Place(self.file, (*self.path, str(name)))

    def __str__(self) -> str:
        if self.file is None:
            return "--" + ".".join(self.path).replace("_", "-")
        return ": ".join(filter(None, (self.file, ".".join(self.path))))

    def say(self, text: str) -> str:
        """``text`` about the whole section that stands here."""
        head = str(self) if self.file is not None else ".".join(self.path)
        return f"{head}: {text}" if head else text


@cache
def hints(cls: type) -> dict[str, Any]:
    """The annotations of the fields of ``cls``, evaluated."""
    return get_type_hints(cls, include_extras=True)


def members(annotation: Any) -> tuple[Any, ...]:
    """``int | None`` → (int, NoneType); what is no union is its own only member. Annotated is looked through."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(inner for member in get_args(annotation) for inner in members(member))
    return (annotation,)


def _is_class(member: Any) -> bool:
    return isinstance(member, type) and get_origin(member) is None


def alternatives(annotation: Any) -> dict[str, Any]:
    """Registered components that may stand where ``annotation`` is declared, by name."""
    bases = tuple(m for m in members(annotation) if _is_class(m))
    kinds = {name: c if isinstance(c, type) else type(c) for name, c in COMPONENTS.items()}
    return {name: COMPONENTS[name] for name, kind in kinds.items() if issubclass(kind, bases)}


def is_struct(member: Any) -> bool:
    """Whether values of ``member`` are mappings: a dataclass, or the base of registered ones."""
    return _is_class(member) and (is_dataclass(member) or bool(alternatives(member)))


def only_struct(annotation: Any) -> type | None:
    """The one dataclass that may stand where ``annotation`` is declared; None where there is a choice, or none."""
    whole = [m for m in members(annotation) if isinstance(m, type) and is_dataclass(m)]
    others = [known for known in alternatives(annotation).values() if known is not whole[0]] if whole else []
    return whole[0] if len(whole) == 1 and not others else None


def sequence(annotation: Any) -> Any:
    """The tuple type among the members of ``annotation``, or None."""
    return next((m for m in members(annotation) if get_origin(m) is tuple), None)


def item(kind: Any, index: int) -> Any:
    """Annotation of one element of ``tuple[X, ...]`` or ``tuple[A, B]``."""
    inner = get_args(kind)
    return inner[0] if inner[-1] is Ellipsis else inner[index]


def length(kind: Any) -> int | None:
    """Number of elements of ``tuple[A, B]``; None for ``tuple[X, ...]``."""
    inner = get_args(kind)
    return None if inner[-1] is Ellipsis else len(inner)


def field_default(base: Any, name: str) -> Any:
    """Value of field ``name`` in ``base``, an instance or a class; MISSING where a class has none."""
    if not isinstance(base, type):
        return getattr(base, name)
    f = next(f for f in fields(base) if f.name == name)
    return f.default if f.default_factory is MISSING else f.default_factory()


def settable(base: Any) -> list[str]:
    """Names of the fields of a dataclass, or of an instance of one, that may be set."""
    return [f.name for f in fields(base) if f.init]


# --- words ------------------------------------------------------------------------------------------------------------


def expected(annotation: Any, place: Place) -> str:
    """What ``annotation`` takes, in words."""
    words = [_words(k, place) for k in members(annotation) if k is not NONE]
    none = [] if NONE not in members(annotation) else ["None" if place.file is None else "null"]
    return " or ".join([*words, *none])


def _words(kind: Any, place: Place) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        inner = f", each {expected(get_args(kind)[0], place)}" if get_args(kind) else ""
        count = length(kind)
        return ("a list of values" if count is None else f"a list of {count} values") + inner
    if is_struct(kind):
        return "one of " + ", ".join(names) if (names := alternatives(kind)) else f"the keys of {kind.__name__}"
    return _SCALARS.get(kind, str(kind))


def show(raw: Any) -> str:
    """A value as it may stand in a file, short, on one line."""
    if raw is None or isinstance(raw, bool):
        return {None: "null", True: "true", False: "false"}[raw]
    text = repr(raw)
    return text if len(text) <= 60 else f"{text[:57]}..."
