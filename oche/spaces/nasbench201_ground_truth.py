"""Ground truth of searches in NAS-Bench-201: the accuracy, in a table of the benchmark, of the cells that they choose."""

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

TABLE_VARIABLE = "OCHE_NB201"  # environment variable with the path of a table, for runs whose space and data it fits
COLUMNS = {  # by the beginning of a data set's name
    "cifar100": "cifar100_test_200ep",
    "cifar10": "cifar10_test_200ep",
    "imagenet16": "imagenet16_test_200ep",
}


@dataclass(frozen=True)
class GroundTruth:
    """One column of a table. Accuracies and regrets are shares of 1, as in all records.

    Raises `OcheError` if the table lacks the column.
    """

    table: Table
    column: str

    def __post_init__(self) -> None:
        _ = self.best

    @property
    def best(self) -> float:
        """The accuracy of the best cell."""
        return self.table.best(self.column)[1] / 100

    def __call__(self, genotype: Genotype) -> dict[str, float]:
        """Return {"true_acc": test accuracy of a cell, "regret": how far that is below the best}."""
        accuracy = self.table.accuracy(genotype, self.column) / 100
        return {"true_acc": accuracy, "regret": self.best - accuracy}

    def describe(self) -> dict[str, object]:
        """Return the table, the column and the best accuracy, for reports."""
        return {"table": str(self.table.path), "column": self.column, "best": self.best}


@dataclass(frozen=True)
class PublishedAccuracy:
    """Published results of a method on NAS-Bench-201: test accuracies in percent after 200 epochs, by data set.

    Each is a mean, followed by the standard deviation if known. ``source``: the arXiv id of the paper.
    """

    source: str
    cifar10: tuple[float, ...]
    cifar100: tuple[float, ...] = ()
    imagenet16: tuple[float, ...] = ()

    def on(self, column: str) -> tuple[float, ...]:
        """Return the values for a column of the table, or () if none are published."""
        data, _, rest = column.partition("_")
        return getattr(self, data, ()) if rest == "test_200ep" else ()


def column_for(data: str) -> str | None:
    """Return the column for the name or path of a data set, or None if the benchmark does not know the data."""
    name = "".join(c for c in Path(data).stem.lower() if c.isalnum())
    return next((column for start, column in COLUMNS.items() if name.startswith(start)), None)


def table_for(asked: Path | None, data: str, space: Space) -> Path | None:
    """Return the table to use: ``asked``, or that of the environment variable if space and data are the benchmark's.

    Raises `OcheError` if ``asked`` does not know the cells of ``space``, or if the file of the environment variable is
    missing.
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
    """Return the ground truth for ``data``, by the column of CIFAR-10 for data that the benchmark does not know.

    None without a table.
    """
    return None if table is None else GroundTruth(Table(table), column_for(data) or Table.main)
