"""The trials of a study, grouped for comparison.

A comparison has the groups on one data set, judged by one metric. A group has the trials of all seeds of one setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from oche.report.metrics import ACCURACY, PERPLEXITY, Metric
from oche.study.local import MEASURES
from oche.study.results import TrialResult
from oche.study.trial import RANDOM
from oche.study.validate import DATA


@dataclass(frozen=True)
class Group:
    """The trials of all seeds of one setting. ``labels``: what tells it from other groups."""

    name: str
    labels: Mapping[str, str]
    rows: tuple[Row, ...]

    @property
    def control(self) -> bool:
        """Whether its cells are random ones, without a search."""
        return self.labels["method"] == RANDOM

    def of(self, key: str) -> dict[int, float]:
        """Number ``key`` of its finished trials, by seed."""
        return {row.seed: row.numbers[key] for row in self.rows if row.state == "complete" and key in row.numbers}


@dataclass(frozen=True)
class Arena:
    """Groups on the same data, compared by the number ``key`` ("test_acc"); "" where none has one yet."""

    name: str
    key: str
    groups: tuple[Group, ...]

    @property
    def metric(self) -> Metric:
        return PERPLEXITY if self.key.endswith("ppl") else ACCURACY

    @property
    def what(self) -> str:
        """ "test accuracy", "true accuracy by the table"."""
        part = {"test": "test", "val": "validation", "true": "true test", "search_val": "validation (in the search)"}
        own = part.get(self.key.rpartition("_")[0], "")
        return f"{own} {self.metric.name}" + (" by the table" if self.key == "true_acc" else "")

    @property
    def results(self) -> dict[str, dict[int, float]]:
        """By group, then by seed; groups without any result are left out, best mean first."""
        known = {group.name: values for group in self.groups if (values := group.of(self.key))}
        sign = -1 if self.metric.higher else 1
        return dict(sorted(known.items(), key=lambda item: sign * sum(item[1].values()) / len(item[1])))

    def control(self, group: Group) -> Group | None:
        """Random cells of the same space, trained as those of ``group``; None where the study has none."""
        own = _trained(group.labels)
        return next((g for g in self.groups if g.control and _trained(g.labels) == own), None)


def arenas(rows: Iterable[Row]) -> tuple[Arena, ...]:
    """The arenas of ``rows``, in order. Groups that differ in what decides which images there are do not meet."""
    found = _sorted_by(rows, lambda row: tuple((k, v) for k, v in row.labels.items() if k in DATA))
    return tuple(_arena(dict(labels), members) for labels, members in found.items())


def _arena(labels: dict[str, str], rows: list[Row]) -> Arena:
    name = " · ".join([labels["data"], *(f"{k}={v}" for k, v in labels.items() if k != "data")])
    by_group = _sorted_by(rows, lambda row: row.group)
    named = dict(zip(by_group, _names([members[0].labels for members in by_group.values()]), strict=True))
    groups = tuple(Group(named[full], members[0].labels, tuple(members)) for full, members in by_group.items())
    finished = [row for row in rows if row.state == "complete"]
    counts = {key: sum(key in row.numbers for row in finished) for key in BEST}
    most = max(counts.values(), default=0)
    return Arena(name, next((key for key, count in counts.items() if count == most > 0), ""), groups)


def _names(labels: list[Mapping[str, str]]) -> list[str]:
    """A short name for each group: its method, and the other labels in which these groups differ."""
    keys = dict.fromkeys(key for of in labels for key in of)
    varied = [k for k in keys if k not in (*DATA, "method") and len({of.get(k, "default") for of in labels}) > 1]
    return [
        " · ".join([of["method"], *(_label(k, of[k]) for k in varied if k in _told(of) and of[k] != "default")])
        for of in labels
    ]


def _told(labels: Mapping[str, str]) -> set[str]:
    """The labels that mean something: what a search is told is nothing to a random cell."""
    return {k for k in labels if labels["method"] != RANDOM or k.partition(".")[0] != "search"}


def _label(key: str, value: str) -> str:
    return value if key == "space" else f"{key}={value}"


def _trained(labels: Mapping[str, str]) -> dict[str, str]:
    """What of ``labels`` a random cell has too: all but the method and what it is told."""
    return {k: v for k, v in labels.items() if k != "method" and k.partition(".")[0] != "search" and v != "default"}


def _sorted_by(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
