"""Frozen dataclasses to plain trees (mappings, lists, numbers, text) and back, checked against their annotations.

A registered component (`oche.core.registry`) stands in a tree under its name: ``{"type": "Neumann", "terms": 5}``, or the name
alone where it has no fields. A tree may be partial: what it leaves out comes from the default it is merged onto.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, is_dataclass
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any, Literal, get_args, get_origin

from oche.core.config.type_hints import (
    NONE,
    Place,
    alternatives,
    expected,
    field_default,
    hints,
    is_struct,
    item,
    length,
    members,
    only_struct,
    sequence,
    settable,
    show,
)
from oche.core.errors import OcheError, nearest
from oche.core.registry import COMPONENTS

# --- to a tree --------------------------------------------------------------------------------------------------------


def to_dict(value: Any) -> Any:
    """``value`` as a plain tree that `from_dict` turns back into an equal one. Floats stay exact, tuples become lists.

    Raises `OcheError` for a component that is not registered, since a file could not name it.
    """
    return _plain(value, None, Place("configuration"))


_PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = ((Integral, int), (Real, float), (str, str))


def _plain(value: Any, declared: Any, place: Place) -> Any:
    if value is None or isinstance(value, bool):
        return value
    for kind, plain in _PLAIN:
        if isinstance(value, kind):
            return plain(value)  # numpy's numbers are none that YAML writes
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, tuple | list):
        kind = sequence(declared)
        return [_plain(v, kind and item(kind, i), place / i) for i, v in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain_struct(value, declared, place)
    raise TypeError(f"{place}: a {type(value).__name__} has no form in a configuration file")


def _plain_struct(value: Any, declared: Any, place: Place) -> Any:
    name = _registered_name(value)
    if name is None and declared is not None and type(value) not in members(declared):
        raise OcheError(
            f"{place}: {type(value).__name__} is not registered, so no file can name it; write @oche.core.registry.component above it"
        )
    annotations = hints(type(value))
    tree = {n: _plain(getattr(value, n), annotations[n], place / n) for n in settable(value)}
    if name is None:
        return tree
    return {"type": name, **tree} if tree else name


def _registered_name(value: Any) -> str | None:
    for name, known in COMPONENTS.items():
        if type(value) is known or (type(value) is type(known) and value == known):
            return name
    return None


# --- from a tree ------------------------------------------------------------------------------------------------------


def from_dict(base: Any, tree: Any, where: str | None = "configuration") -> Any:
    """Merges ``tree`` onto ``base``, a dataclass or an instance that holds the defaults; returns a new instance.

    ``where`` names the file in messages; None means the command line, where every leaf is text. Raises `OcheError`, one
    line with file, dotted key, what was found and what to write, for unknown keys, wrong types and refused values.
    """
    if not isinstance(tree, dict):
        raise OcheError(f"{where}: expected keys and values, found {show(tree)}")
    return _build(base, tree, Place(where))


def _build(base: Any, tree: dict[Any, Any], place: Place) -> Any:
    cls = base if isinstance(base, type) else type(base)
    names = settable(cls)
    for key in tree:
        if key not in names:
            raise OcheError(place.say(_unknown(cls, key, names)))
    if not tree and base is not cls:
        return base
    values = {}
    for name in names:
        value = field_default(base, name)
        if name in tree:
            value = coerce(hints(cls)[name], tree[name], place / name, value)
        if value is not MISSING:
            values[name] = value
    if missing := [name for name in names if name not in values]:
        raise OcheError(place.say(f"{cls.__name__} needs a value for {', '.join(missing)}"))
    try:
        return cls(**values)
    except ValueError as error:  # of its own validation
        raise OcheError(place.say(" ".join(str(error).split()))) from None


def _unknown(cls: type, key: object, names: list[str]) -> str:
    known = f"known: {', '.join(names)}" if names else f"{cls.__name__} has none"
    return f"unknown key {show(key)}{nearest(str(key), names) or f'; {known}'}"


def coerce(annotation: Any, raw: Any, place: Place, default: Any = MISSING) -> Any:
    """``raw`` as a value of ``annotation``; mappings are merged onto ``default``."""
    kinds = members(annotation)
    if NONE in kinds and _is_none(raw, kinds, place):
        return None
    kinds = tuple(k for k in kinds if k is not NONE)
    if _is_for_struct(annotation, kinds, raw):
        return _struct(annotation, raw, place, default)
    if place.file is not None:  # 5 for ``float | int`` is an int; on the command line everything is text
        kinds = tuple(sorted(kinds, key=lambda k: type(raw) is not k))
    for kind in kinds:
        try:
            return _leaf(kind, raw, place, default)
        except (ValueError, OverflowError) as error:
            if isinstance(error, OcheError) and len(kinds) == 1:
                raise  # about an element, and more exact
    raise OcheError(f"{place}: expected {expected(annotation, place)}, found {show(raw)}{_hint(kinds, raw)}")


def _is_none(raw: Any, kinds: tuple[Any, ...], place: Place) -> bool:
    """null; the word None on the command line; None, none or null in words where no text is taken."""
    if not isinstance(raw, str):
        return raw is None
    numbers = all(k in (NONE, bool, int, float) for k in kinds)
    return (place.file is None and raw == "None") or (numbers and raw.lower() in ("none", "null"))


def _is_for_struct(annotation: Any, kinds: tuple[Any, ...], raw: Any) -> bool:
    structs = [k for k in kinds if is_struct(k)]
    named = isinstance(raw, str) and raw in alternatives(annotation)
    return bool(structs) and (len(structs) == len(kinds) or isinstance(raw, dict) or named)


def _struct(annotation: Any, raw: Any, place: Place, default: Any) -> Any:
    names = alternatives(annotation)
    if isinstance(raw, str) and names:
        raw = {"type": raw}
    if not isinstance(raw, dict):
        raise OcheError(f"{place}: expected {expected(annotation, place)}, found {show(raw)}")
    if "type" in raw and names:
        chosen = pick(annotation, raw["type"], place)
        rest = {k: v for k, v in raw.items() if k != "type"}
        # A file that keeps the kind keeps the default's other values; a name alone, or an option, chooses anew.
        kept = rest and type(default) is chosen and place.file is not None
        built = _build(default if kept else chosen, rest, place)
        # An option may add to what stood there, where the component says so (`oche.methods.cost_constraints.Resource.onto`).
        return built.onto(default) if place.file is None and hasattr(built, "onto") else built
    if is_dataclass(default) and not isinstance(default, type):
        return _build(default, raw, place)
    if (only := only_struct(annotation)) is None:
        raise OcheError(f"{place}: expected a mapping with a type, {expected(annotation, place)}; found {show(raw)}")
    return _build(only, raw, place)


def pick(annotation: Any, name: object, place: Place) -> Any:
    """The registered component ``name``: a class, or the one value of one. Raises `OcheError` if it does not fit here."""
    names = alternatives(annotation)
    if isinstance(name, str) and name in names:
        return names[name]
    raise OcheError(
        f"{place}: expected {expected(annotation, place)}; found {show(name)}{nearest(str(name), [*names])}"
    )


def _leaf(kind: Any, raw: Any, place: Place, default: Any) -> Any:
    """Raises ValueError where ``raw`` is no ``kind``."""
    if get_origin(kind) is Literal:
        return _choice(kind, raw, place)
    if get_origin(kind) is tuple:
        return _sequence(kind, raw, place, default)
    if kind not in _READ:
        raise TypeError(f"{place}: no way to read {kind} from a configuration")
    return _READ[kind](raw)


def _choice(kind: Any, raw: Any, place: Place) -> Any:
    for value in get_args(kind):
        if (place.file is None and raw == str(value)) or (raw == value and type(raw) is type(value)):
            return value
    raise ValueError


def _sequence(kind: Any, raw: Any, place: Place, default: Any) -> tuple[Any, ...]:
    if place.file is None and isinstance(raw, dict):  # --stages.0.epochs 5 changes one element
        items = list(default)
        for key, value in raw.items():
            i = int(key)
            items[i] = coerce(item(kind, i), value, place / i, items[i])
        return tuple(items)
    if not isinstance(raw, list) or length(kind) not in (None, len(raw)):
        raise ValueError
    return tuple(coerce(item(kind, i), value, place / i) for i, value in enumerate(raw))


def _boolean(raw: Any) -> bool:
    word = str(raw).lower()
    if not isinstance(raw, bool | str) or word not in ("true", "false"):
        raise ValueError
    return word == "true"


def _reader(kind: Callable[[Any], Any], *taken: type) -> Callable[[Any], Any]:
    def read(raw: Any) -> Any:
        if isinstance(raw, bool) or not isinstance(raw, taken):
            raise ValueError
        return kind(raw)

    return read


_READ: dict[Any, Callable[[Any], Any]] = {
    bool: _boolean,
    int: _reader(int, int, str),
    float: _reader(float, int, float, str),  # PyYAML takes 1e-3 for text
    str: _reader(str, str),
    Path: _reader(Path, str),
}


def _hint(kinds: tuple[Any, ...], raw: Any) -> str:
    if str in kinds and isinstance(raw, bool | int | float):
        return f"; put it in quotes: '{show(raw)}'"
    return nearest(str(raw), [str(v) for k in kinds if get_origin(k) is Literal for v in get_args(k)])
