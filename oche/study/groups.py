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
from oche.study.trial import RANDOM, short_names
from oche.study.validate import DATA


@dataclass(frozen=True)
class Group:
    """The trials of all seeds of one setting. ``labels`` tell it from other groups."""

    name: str
    labels: Mapping[str, str]
    trials: tuple[TrialResult, ...]

    @property
    def control(self) -> bool:
        """Whether its cells are random, without a search."""
        return self.labels["method"] == RANDOM

    def of(self, key: str) -> dict[int, float]:
        """The results ``key`` of its finished trials, by seed."""
        return {
            trial.seed: trial.numbers[key]
            for trial in self.trials
            if trial.state == "complete" and key in trial.numbers
        }


@dataclass(frozen=True)
class Comparison:
    """Groups on the same data, compared by their results ``key``, such as "test_acc"; ``key`` is "" if there are none yet."""

    name: str
    key: str
    groups: tuple[Group, ...]

    @property
    def metric(self) -> Metric:
        return PERPLEXITY if self.key.endswith("ppl") else ACCURACY

    @property
    def what(self) -> str:
        """The name of the results: "test accuracy", "true test accuracy by the table"."""
        part = {"test": "test", "val": "validation", "true": "true test", "search_val": "validation (in the search)"}
        own = part.get(self.key.rpartition("_")[0], "")
        return f"{own} {self.metric.name}" + (" by the table" if self.key == "true_acc" else "")

    @property
    def majority(self) -> float | None:
        """The share of the commonest class of the images that accuracies are of; None where unknown, or not the same for all."""
        key = self.key.removesuffix("acc") + "majority"
        shares = {share for group in self.groups for share in group.of(key).values()}
        return shares.pop() if self.key.endswith("acc") and len(shares) == 1 else None

    @property
    def results(self) -> dict[str, dict[int, float]]:
        """The results by group and seed, best mean first; groups without a result are left out."""
        known = {group.name: values for group in self.groups if (values := group.of(self.key))}
        sign = -1 if self.metric.higher else 1
        return dict(sorted(known.items(), key=lambda item: sign * sum(item[1].values()) / len(item[1])))

    def control(self, group: Group) -> Group | None:
        """The group of random cells of the same space, trained as those of ``group``; None if there is none."""
        own = _trained(group.labels)
        return next((g for g in self.groups if g.control and _trained(g.labels) == own), None)


def comparisons(trials: Iterable[TrialResult]) -> tuple[Comparison, ...]:
    """The comparisons of ``trials``, in order. Groups on different images or tokens are not compared."""
    found = _group_by(trials, lambda trial: tuple((k, v) for k, v in trial.labels.items() if k in DATA))
    return tuple(_comparison(dict(labels), members) for labels, members in found.items())


def _comparison(labels: dict[str, str], trials: list[TrialResult]) -> Comparison:
    name = " · ".join([labels["data"], *(f"{k}={v}" for k, v in labels.items() if k != "data")])
    by_group = _group_by(trials, lambda trial: trial.group)
    short = short_names([members[0].labels for members in by_group.values()], common=DATA)
    named = dict(zip(by_group, short, strict=True))
    groups = tuple(Group(named[full], members[0].labels, tuple(members)) for full, members in by_group.items())
    finished = [trial for trial in trials if trial.state == "complete"]
    counts = {key: sum(key in trial.numbers for trial in finished) for key in MEASURES}
    most = max(counts.values(), default=0)
    return Comparison(name, next((key for key, count in counts.items() if count == most > 0), ""), groups)


def _trained(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that a random cell has too: all but the method and the settings of the search."""
    return {k: v for k, v in labels.items() if k != "method" and k.partition(".")[0] != "search" and v != "default"}


def _group_by(trials: Iterable[TrialResult], key: Callable[[TrialResult], Any]) -> dict[Any, list[TrialResult]]:
    found: dict[Any, list[TrialResult]] = {}
    for trial in trials:
        found.setdefault(key(trial), []).append(trial)
    return found
