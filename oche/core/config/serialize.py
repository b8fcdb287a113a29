"""Frozen dataclasses to plain trees (mappings, lists, numbers, text) and back, checked against their annotations.

A tree names a registered component (`oche.core.registry`): ``{"type": "Neumann", "terms": 5}``, or its name alone if it has
no fields. A tree may be partial: the default supplies the values that it leaves out.
"""

from __future__ import annotations

from dataclasses import MISSING, is_dataclass, replace
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any, Literal, get_args, get_origin

from oche.core.config.moved import former, is_record, relocated
from oche.core.config.type_hints import FieldType, Place, field_default, hints, settable, show
from oche.core.errors import OcheError, did_you_mean
from oche.core.registry import COMPONENTS

# --- to a tree --------------------------------------------------------------------------------------------------------


def to_dict(value: Any) -> Any:
    """Return ``value`` as a plain tree that `from_dict` turns back into an equal one. Floats stay exact, tuples become lists.

    Raises `OcheError` for a component that is not registered, since no file could name it.
    """
    return _plain(value, None, Place("configuration"))


def _plain(value: Any, annotation: Any, place: Place) -> Any:
    """``annotation``: that of the field which holds ``value``; None if it is not known."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):  # YAML cannot write numpy's numbers
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, str | PurePath):
        return str(value)
    if isinstance(value, tuple | list):
        declared = FieldType(annotation)
        return [_plain(v, declared.tuple and declared.element(i), place / i) for i, v in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain_struct(value, annotation, place)
    raise TypeError(f"{place}: a {type(value).__name__} has no form in a configuration file")


def _plain_struct(value: Any, annotation: Any, place: Place) -> Any:
    cls = type(value)
    name = next((n for n, c in COMPONENTS.items() if cls is c or (cls is type(c) and value == c)), None)
    if name is None and annotation is not None and cls not in FieldType(annotation).members:
        raise OcheError(
            f"{place}: {cls.__name__} is not registered, so no file can name it; write @oche.core.registry.component above it"
        )
    tree = {n: _plain(getattr(value, n), hints(cls)[n], place / n) for n in settable(value)}
    if name is None:
        return tree
    return {"type": name, **tree} if tree else name


# --- from a tree ------------------------------------------------------------------------------------------------------


def from_dict(base: Any, tree: Any, where: str | None = "configuration") -> Any:
    """Merge ``tree`` onto ``base``, a dataclass or an instance that holds the defaults; return a new instance.

    ``where`` names the file in messages; None means the command line, whose values are all text. Raises `OcheError`, one
    line with the file, the dotted key, the value found and what to write, for unknown keys, wrong types and refused values.
    """
    if not isinstance(tree, dict):
        raise OcheError(f"{where}: expected keys and values, found {show(tree)}")
    return _build(base, tree, Place(where))


def _build(base: Any, tree: dict[Any, Any], place: Place) -> Any:
    cls = base if isinstance(base, type) else type(base)
    names = settable(cls)
    if hasattr(cls, "moved"):
        tree = relocated(cls, tree)
    for key in tree:
        if key not in names:
            known = f"known: {', '.join(names)}" if names else f"{cls.__name__} has none"
            raise OcheError(place.say(f"unknown key {show(key)}{did_you_mean(str(key), names) or f'; {known}'}"))
    if not tree and base is not cls:
        return base
    values = {name: field_default(base, name) for name in names} | (former(cls) if place.recorded else {})
    inner = replace(place, recorded=place.recorded or (place.file is not None and is_record(cls, tree)))
    values |= {n: coerce(hints(cls)[n], tree[n], inner / n, values[n]) for n in names if n in tree}
    if missing := [name for name in names if values[name] is MISSING]:
        raise OcheError(place.say(f"{cls.__name__} needs a value for {', '.join(missing)}"))
    try:
        return cls(**values)
    except ValueError as error:  # raised by its __post_init__
        raise OcheError(place.say(" ".join(str(error).split()))) from None


def coerce(annotation: Any, raw: Any, place: Place, default: Any = MISSING) -> Any:
    """Return ``raw`` as a value of ``annotation``. A mapping is merged onto ``default``. Raises `OcheError`."""
    declared = FieldType(annotation)
    if declared.optional and _is_none(declared, raw, place):
        return None
    if _is_for_struct(declared, raw):
        return _struct(declared, raw, place, default)
    members = declared.members
    if place.file is not None:  # 5 for ``float | int`` is an int; on the command line every value is text
        members = sorted(members, key=lambda m: type(raw) is not m)
    for member in members:
        try:
            return _leaf(declared, member, raw, place, default)
        except (ValueError, OverflowError) as error:
            if isinstance(error, OcheError) and len(members) == 1:
                raise  # it is about one element, and more exact
    raise OcheError(f"{place}: expected {declared.expected(place)}, found {show(raw)}{_hint(declared, raw)}")


def _is_none(declared: FieldType, raw: Any, place: Place) -> bool:
    """Whether ``raw`` means None: null, None on the command line, or one of the words none and null if no text is allowed."""
    if not isinstance(raw, str):
        return raw is None
    numbers = all(m in (bool, int, float) for m in declared.members)
    return (place.file is None and raw == "None") or (numbers and raw.lower() in ("none", "null"))


# --- dataclasses and components ---------------------------------------------------------------------------------------


def _is_for_struct(declared: FieldType, raw: Any) -> bool:
    named = isinstance(raw, str) and raw in declared.components
    only = len(declared.structs) == len(declared.members)
    return bool(declared.structs) and (only or isinstance(raw, dict) or named)


def _struct(declared: FieldType, raw: Any, place: Place, default: Any) -> Any:
    if isinstance(raw, str) and declared.components:
        raw = {"type": raw}
    if not isinstance(raw, dict):
        raise OcheError(f"{place}: expected {declared.expected(place)}, found {show(raw)}")
    if "type" in raw and declared.components:
        chosen = pick(declared, raw["type"], place)
        rest = {k: v for k, v in raw.items() if k != "type"}
        # A file that keeps the component keeps the default's other values; a name alone, or an option, starts anew.
        kept = rest and type(default) is chosen and place.file is not None
        built = _build(default if kept else chosen, rest, place)
        # An option may add to the default, if the component says so (`oche.methods.cost_constraints.CostPenalty.onto`).
        return built.onto(default) if place.file is None and hasattr(built, "onto") else built
    if is_dataclass(default) and not isinstance(default, type):
        return _build(default, raw, place)
    if (only := declared.only_struct) is None:
        raise OcheError(f"{place}: expected a mapping with a type, {declared.expected(place)}; found {show(raw)}")
    return _build(only, raw, place)


def pick(declared: FieldType, name: object, place: Place) -> Any:
    """Return the component ``name``: a class, or the one value of a class. Raises `OcheError` if it is not allowed here."""
    known = declared.components
    if isinstance(name, str) and name in known:
        return known[name]
    hint = did_you_mean(str(name), [*known])
    raise OcheError(f"{place}: expected {declared.expected(place)}; found {show(name)}{hint}")


# --- single values and tuples -----------------------------------------------------------------------------------------

_READABLE = {int: (int, str), float: (int, float, str), str: (str,), Path: (str,)}  # PyYAML takes 1e-3 for text


def _leaf(declared: FieldType, member: Any, raw: Any, place: Place, default: Any) -> Any:
    """Return ``raw`` as a value of ``member``. Raises ValueError if it is none."""
    if get_origin(member) is tuple:
        return _elements(declared, raw, place, default)
    if get_origin(member) is Literal:
        for value in get_args(member):
            if (place.file is None and raw == str(value)) or (raw == value and type(raw) is type(value)):
                return value
        raise ValueError
    if member is bool:
        if not isinstance(raw, bool | str) or str(raw).lower() not in ("true", "false"):
            raise ValueError
        return str(raw).lower() == "true"
    if member not in _READABLE:
        raise TypeError(f"{place}: no way to read {member} from a configuration")
    if isinstance(raw, bool) or not isinstance(raw, _READABLE[member]):
        raise ValueError
    return member(raw)


def _elements(declared: FieldType, raw: Any, place: Place, default: Any) -> tuple[Any, ...]:
    if place.file is None and isinstance(raw, dict):  # --stages.0.epochs 5 changes one element
        items = list(default)
        for key, value in raw.items():
            i = int(key)
            items[i] = coerce(declared.element(i), value, place / i, items[i])
        return tuple(items)
    if not isinstance(raw, list) or declared.length not in (None, len(raw)):
        raise ValueError
    return tuple(coerce(declared.element(i), value, place / i) for i, value in enumerate(raw))


def _hint(declared: FieldType, raw: Any) -> str:
    if str in declared.members and isinstance(raw, bool | int | float):
        return f"; put it in quotes: '{show(raw)}'"
    words = [str(value) for m in declared.members if get_origin(m) is Literal for value in get_args(m)]
    return did_you_mean(str(raw), words)
