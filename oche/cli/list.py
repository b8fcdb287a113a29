"""The tables of ``oche list``: topic → (column titles, rows of text)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Table = tuple[tuple[str, ...], Iterable[tuple[str, ...]]]


def methods() -> Table:
    from oche.methods.published import METHODS

    return ("name", "paper", "year", "what differs"), [(n, e.paper, str(e.year), e.differs) for n, e in METHODS.items()]


def spaces() -> Table:
    from oche.spaces import SPACES

    return ("name", "what it is"), [(n, _first(make)) for n, make in SPACES.items()]


def data() -> Table:
    from oche.data import DATASETS, FORMS, TEXT_FORMS, TEXTS

    return ("name or form", "what it is"), [
        item for table in (DATASETS, TEXTS, FORMS, TEXT_FORMS) for item in table.items()
    ]


def genotypes() -> Table:
    from oche.core.genotypes import GENOTYPES

    return ("name", "paper", "year", "source"), [(n, g.paper, str(g.year), g.source) for n, g in GENOTYPES.items()]


def operations() -> Table:
    from oche.spaces import OPERATIONS

    return ("name", "what it does"), [(n, op.summary) for n, op in OPERATIONS.items()]


def recipes() -> Table:
    from oche.training.recipes import RECIPES

    return ("name", "what it is"), [(n, _first(make)) for n, make in RECIPES.items()]


def _first(make: Callable[..., object]) -> str:
    """The first sentence of a docstring, up to a semicolon."""
    return " ".join((make.__doc__ or "").split()).split(". ")[0].split("; ")[0].rstrip(".")


TABLES: dict[str, Callable[[], Table]] = {
    "methods": methods,
    "spaces": spaces,
    "data": data,
    "genotypes": genotypes,
    "operations": operations,
    "recipes": recipes,
}
