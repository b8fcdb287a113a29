"""Names for the components of a configuration: relaxations, hypergradients, decisions, spaces."""

from __future__ import annotations

from typing import Any, TypeVar

from oche.core.arguments import checked

T = TypeVar("T", bound=type)
V = TypeVar("V")

COMPONENTS: dict[str, Any] = {}  # by name: a frozen dataclass, or the single value of a dataclass without fields


def component(cls: T) -> T:
    """Register a frozen dataclass under its class name. From then on it checks the types of its fields (`checked`)."""
    _add(cls.__name__, cls)
    return checked(cls)


def singleton(name: str, value: V) -> V:
    """Register the single value of a dataclass without fields, under the lower-case name that code uses for it."""
    _add(name, value)
    return value


def _add(name: str, value: Any) -> None:
    if name in COMPONENTS and COMPONENTS[name] is not value:
        raise ValueError(f"a component named {name!r} exists already; choose another name")
    COMPONENTS[name] = value
