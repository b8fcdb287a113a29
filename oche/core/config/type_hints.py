"""The values that the annotations of a configuration's fields allow, and the words that messages use for them."""

from __future__ import annotations

import types
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from oche.core.registry import COMPONENTS

_SCALARS = {bool: "true or false", int: "an integer", float: "a number", str: "text", Path: "a path"}


@dataclass(frozen=True)
class Place:
    """The place of a value, for messages: a dotted key of ``file``, or an option of the command line if ``file`` is None.

    ``recorded``: whether it is part of the record of a run of an earlier version, see `oche.core.config.moved`.
    """

    file: str | None
    path: tuple[str, ...] = ()
    recorded: bool = False

    def __truediv__(self, name: object) -> Place:
        return Place(self.file, (*self.path, str(name)), self.recorded)

    def __str__(self) -> str:
        if self.file is None:
            return "--" + ".".join(self.path).replace("_", "-")
        return ": ".join(filter(None, (self.file, ".".join(self.path))))

    def say(self, text: str) -> str:
        """``text`` about the whole section at this place."""
        head = str(self) if self.file is not None else ".".join(self.path)
        return f"{head}: {text}" if head else text


class FieldType:
    """The values that an annotation allows.

    members      the types of a union, without None; of any other annotation that type alone
    optional     whether None is allowed
    components   the registered components that are instances of a member, by name
    structs      the members whose values are mappings: dataclasses and bases of components
    tuple        the member ``tuple[...]``, or None
    """

    def __init__(self, annotation: Any) -> None:
        union = _members(annotation)
        self.members = tuple(m for m in union if m is not types.NoneType)
        self.optional = types.NoneType in union
        self.tuple = next((m for m in self.members if get_origin(m) is tuple), None)
        classes = tuple(m for m in self.members if isinstance(m, type) and get_origin(m) is None)
        kinds = {name: c if isinstance(c, type) else type(c) for name, c in COMPONENTS.items()}
        self.components = {name: COMPONENTS[name] for name, kind in kinds.items() if issubclass(kind, classes)}
        bases = [kinds[name] for name in self.components]
        self.structs = [m for m in classes if is_dataclass(m) or any(issubclass(kind, m) for kind in bases)]

    @property
    def only_struct(self) -> type | None:
        """The dataclass whose instances are the only mappings allowed; None if there is a choice, or none."""
        plain = [m for m in self.structs if is_dataclass(m)]
        alone = len(plain) == 1 and all(known is plain[0] for known in self.components.values())
        return plain[0] if alone else None

    @property
    def length(self) -> int | None:
        """The number of elements of ``tuple[A, B]``; None for ``tuple[X, ...]`` and for any other type."""
        inner = get_args(self.tuple)
        return None if self.tuple is None or inner[-1] is Ellipsis else len(inner)

    def element(self, index: int) -> Any:
        """The annotation of element ``index`` of the tuple."""
        inner = get_args(self.tuple)
        return inner[0] if inner[-1] is Ellipsis else inner[index]

    def expected(self, place: Place) -> str:
        """The allowed values, in words."""
        none = [] if not self.optional else ["None" if place.file is None else "null"]
        return " or ".join([*(self._words(member, place) for member in self.members), *none])

    def _words(self, member: Any, place: Place) -> str:
        if get_origin(member) is Literal:
            return "one of " + ", ".join(map(str, get_args(member)))
        if get_origin(member) is tuple:
            inner = f", each {FieldType(get_args(member)[0]).expected(place)}" if get_args(member) else ""
            return ("a list of values" if self.length is None else f"a list of {self.length} values") + inner
        if member in self.structs:
            names = FieldType(member).components
            return f"one of {', '.join(names)}" if names else f"the keys of {member.__name__}"
        return _SCALARS.get(member, str(member))


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, None among them; Annotated is looked through."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(inner for member in get_args(annotation) for inner in _members(member))
    return (annotation,)


# --- fields of a dataclass --------------------------------------------------------------------------------------------


@cache
def hints(cls: type) -> dict[str, Any]:
    """The annotations of the fields of ``cls``, evaluated."""
    return get_type_hints(cls, include_extras=True)


def settable(base: Any) -> list[str]:
    """The names of the fields of a dataclass, or of an instance of one, that may be set."""
    return [f.name for f in fields(base) if f.init]


def field_default(base: Any, name: str) -> Any:
    """The value of field ``name`` in an instance, or its default in a class; MISSING if the class has none."""
    if not isinstance(base, type):
        return getattr(base, name)
    f = next(f for f in fields(base) if f.name == name)
    return f.default if f.default_factory is MISSING else f.default_factory()


def show(raw: Any) -> str:
    """A value as a file would write it, on one short line."""
    if raw is None or isinstance(raw, bool):
        return {None: "null", True: "true", False: "false"}[raw]
    text = repr(raw)
    return text if len(text) <= 60 else f"{text[:57]}..."
