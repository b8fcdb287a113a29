"""The table of published methods, by the names that the command line uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, TypeVar

from oche.core.arguments import checked
from oche.methods.recipe import SearchRecipe
from oche.spaces.base import Space
from oche.spaces.nasbench201_ground_truth import PublishedAccuracy

F = TypeVar("F", bound=Callable[..., SearchRecipe])


@checked
@dataclass(frozen=True)
class MethodEntry:
    """A row of the table."""

    make: Callable[..., SearchRecipe]
    """returns the recipe; takes fields that replace its own"""
    paper: str
    year: int
    differs: str
    """what distinguishes the method, one line"""
    published: PublishedAccuracy | None = None
    """accuracies on NAS-Bench-201, published for a full-size search of published length"""
    in_space: Mapping[Any, Mapping[str, Any]] = field(default_factory=dict)
    """fields of the recipe that the published search in a space has otherwise, by the class of the space"""

    def for_space(self, space: Space, **fields: Any) -> SearchRecipe:
        """Return the recipe with the values published for ``space``; ``fields`` replace them."""
        return space.adapt_search(self.make(**{**self.in_space.get(type(space), {}), **fields}))


METHODS: dict[str, MethodEntry] = {}


@checked
def listed(
    name: str,
    paper: str,
    year: int,
    differs: str,
    published: PublishedAccuracy | None = None,
    in_space: Mapping[Any, Mapping[str, Any]] | None = None,
    **fixed: Any,
) -> Callable[[F], F]:
    """Return a decorator that lists a function in `METHODS` under ``name``.

    ``in_space``: see `MethodEntry.in_space`. ``fixed`` are arguments of the function, where one function makes several
    methods. Of stacked decorators the bottom one lists first.
    """

    def enter(make: F) -> F:
        make = checked(make)
        METHODS[name] = MethodEntry(
            partial(make, **fixed) if fixed else make, paper, year, differs, published, in_space or {}
        )
        return make

    return enter


@checked
def closest_name(value: Any, table: Mapping[str, Any]) -> str:
    """Return the name in ``table`` whose value differs from ``value`` in the fewest fields. All are dataclasses. Ties go to
    the first.
    """
    own = _leaves(value)

    def differing(name: str) -> int:
        other = _leaves(table[name])
        return sum(own[field] != other[field] for field in own)

    return min(table, key=differing)


def _leaves(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name; the fields of a recipe's method count as the recipe's own."""
    found = {f.name: getattr(value, f.name) for f in fields(value)}
    return found | _leaves(found.pop("method")) if isinstance(value, SearchRecipe) else found
