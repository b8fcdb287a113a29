"""Fields that moved, got another name or are new: configurations and options written before are still read.

A dataclass says so by class variables. ``moved`` is a mapping from the name of before to the path of now. ``former`` holds
the values that new fields have in the record of a run that was made before there were any, so that the run goes on as it began.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from oche.core.config.type_hints import field_default, settable


def relocated(cls: type, tree: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return ``tree``, of a dataclass ``cls``, with every moved key at its path of now. What stands there already wins."""
    moved, names = getattr(cls, "moved", {}), settable(cls)
    found = {key: value for key, value in tree.items() if key in names or (key not in moved and key != "type")}
    for key, value in tree.items():
        if key not in moved or key in names:
            continue
        *owners, last = moved[key]
        at = found
        for owner in owners:
            at[owner] = dict(at.get(owner) or {})
            at = at[owner]
        at.setdefault(last, value)
    return found


def former(cls: type) -> dict[str, Any]:
    """Return the values of fields of ``cls`` that records of earlier versions lack."""
    return dict(getattr(cls, "former", {}))


def is_record(cls: type, tree: Mapping[Any, Any]) -> bool:
    """Whether ``tree`` lists every field of ``cls`` that there was before it had new ones, and lacks new ones."""
    new = {*former(cls)}
    return bool(new) and {*settable(cls)} - new <= {*tree} and not new <= {*tree}


def as_recorded(value: Any, tree: Any) -> Any:
    """Return ``tree``, the plain form of ``value``, without new fields that have their former value."""
    if isinstance(value, tuple | list) and isinstance(tree, list):
        return [as_recorded(v, t) for v, t in zip(value, tree, strict=True)]
    if not is_dataclass(value) or not isinstance(tree, Mapping):
        return tree
    new = former(type(value))
    kept = {
        name: branch if name == "type" else as_recorded(getattr(value, name), branch)
        for name, branch in tree.items()
        if not (name in new and getattr(value, name) == new[name])
    }
    return kept["type"] if [*kept] == ["type"] and len(tree) > 1 else kept


def current_path(base: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the option ``path`` below ``base``, a dataclass or an instance, with moved fields at their path of now."""
    if not path or not is_dataclass(base):
        return path
    first, *rest = path
    moved = getattr(base, "moved", {})
    if first not in settable(base):
        return current_path(base, (*moved[first], *rest)) if first in moved else path
    return (first, *current_path(field_default(base, first), tuple(rest)))


def renamed(base: Any, tree: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, dotted key of now) for every key of ``tree``, of ``base``, whose last part got another name."""
    if not is_dataclass(base):
        return
    moved = getattr(base, "moved", {})
    for key, value in tree.items():
        if key in settable(base):
            if isinstance(value, Mapping):
                yield from renamed(field_default(base, key), value, f"{before}{key}.")
        elif key in moved and moved[key][-1] != key:
            yield f"{before}{key}", f"{before}{'.'.join(moved[key])}"


def short_path(base: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the shortest spelling of the option ``path`` that `current_path` reads: search.relax, not search.method.relax."""
    if len(path) < 2 or not is_dataclass(base):
        return path
    first, second, *rest = path
    if getattr(base, "moved", {}).get(second) == (first, second):
        return (second, *rest)
    return (first, *short_path(field_default(base, first), path[1:])) if first in settable(base) else path


def as_before(cls: type, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``tree``, of a dataclass ``cls``, with moved fields where and as they were called before: `relocated`, undone."""
    names: dict[tuple[str, ...], str] = {}
    for old, path in cls.moved.items():  # pyright: ignore[reportAttributeAccessIssue]
        if path not in names or old != path[-1]:
            names[path] = old
    found: dict[str, Any] = {}

    def walk(branch: Mapping[str, Any], at: tuple[str, ...]) -> None:
        for key, value in branch.items():
            path = (*at, key)
            if any(path == moved[: len(path)] for moved in names if len(moved) > len(path)):
                walk(value, path)
            else:
                found[names.get(path, key)] = value

    walk(tree, ())
    return found
