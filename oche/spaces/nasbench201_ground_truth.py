"""What a table of NAS-Bench-201 says of the cells that a search would choose: the accuracy that they really reach."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oche.core.architecture import Genotype
from oche.core.errors import OcheError
from oche.core.nasbench201 import OPERATIONS, Table

if TYPE_CHECKING:
    from oche.spaces.base import Space

TABLE_VARIABLE = "OCHE_NB201"  # environment variable with the path of a table, used where it fits
COLUMNS = {  # by the start of a data set's name
    "cifar100": "cifar100_test_200ep",
    "cifar10": "cifar10_test_200ep",
    "imagenet16": "imagenet16_test_200ep",
}


@dataclass(frozen=True)
class GroundTruth:
    """One column of a table; accuracies and regrets are shares of 1, as in all records. Raises `OcheError` without it."""

    table: Table
    column: str

    def __post_init__(self) -> None:
        _ = self.best

    @property
    def best(self) -> float:
        """What the best cell reaches."""
        return self.table.best(self.column)[1] / 100

    def __call__(self, genotype: Genotype) -> dict[str, float]:
        """{"true_acc": test accuracy of a cell, "regret": how far that is below the best}."""
        accuracy = self.table.accuracy(genotype, self.column) / 100
        return {"true_acc": accuracy, "regret": self.best - accuracy}

    def describe(self) -> dict[str, object]:
        """For reports."""
        return {"table": str(self.table.path), "column": self.column, "best": self.best}


@dataclass(frozen=True)
class PublishedAccuracy:
    """What a paper states for a method on NAS-Bench-201: test accuracies in percent after 200 epochs, by data set.

    Each is a mean, followed by the standard deviation where it is known. ``source``: the paper, by its arXiv id.
    """

    source: str
    cifar10: tuple[float, ...]
    cifar100: tuple[float, ...] = ()
    imagenet16: tuple[float, ...] = ()

    def on(self, column: str) -> tuple[float, ...]:
        """The values to stand beside those of a column of the table; () for none."""
        data, _, rest = column.partition("_")
        return getattr(self, data, ()) if rest == "test_200ep" else ()


def column_for(data: str) -> str | None:
    """The column for a data set's name or path; None for data that the benchmark does not know."""
    name = "".join(c for c in Path(data).stem.lower() if c.isalnum())
    return next((column for start, column in COLUMNS.items() if name.startswith(start)), None)


def table_for(asked: Path | None, data: str, space: Space) -> Path | None:
    """The table to use: the one asked for, or that of the environment where space and data are the benchmark's.

    Raises `OcheError` for one asked for whose cells are not those of ``space``.
    """
    known = space.recipe == "nb201" and set(space.candidates) <= set(OPERATIONS)
    if asked is not None and not known:
        raise OcheError(
            f"table {asked} knows the cells of NAS-Bench-201, and this space has others; "
            f"use --space nb201 with candidates among {', '.join(OPERATIONS)}, or leave the table out"
        )
    found = os.environ.get(TABLE_VARIABLE)
    if asked is not None or not found or not known or column_for(data) is None:
        return asked
    if not Path(found).is_file():
        raise OcheError(
            f"there is no table at {found}, which the environment variable {TABLE_VARIABLE} names; correct or unset it"
        )
    return Path(os.path.abspath(os.path.expanduser(found)))


def load_ground_truth(table: Path | None, data: str) -> GroundTruth | None:
    """What ``table`` says for ``data``; for data that the benchmark does not know, what it says for CIFAR-10."""
    return None if table is None else GroundTruth(Table(table), column_for(data) or Table.main)
