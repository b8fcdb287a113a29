"""The tables of a comparison: what every run reached, what groups of runs did, in which settings they differ."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

from oche.report import format_text as words
from oche.report.comparison_runs import Member, differing
from oche.report.cost_page import KINDS, Price
from oche.report.html.page import Cell, Item, Section, Table
from oche.report.metric_names import Measure
from oche.report.read_run import Run, number
from oche.report.run_page import tested

_SETTINGS = 24  # columns of the table of settings


def trained(m: Member) -> Run | None:
    """The training whose test counts: the run's own, or that of its cell."""
    runs = [m.run] if m.run.kind == "train" else [*m.trainings]
    return next((r for r in runs if tested(r) is not None), None)


def _test(m: Member) -> float | None:
    return tested(trained(m))


def _searched(m: Member, key: str) -> float | None:
    return None if m.run.kind == "train" else m.run.figure(key)


def _random(m: Member) -> float | None:
    known = [value for r in m.random if (value := tested(r)) is not None]
    return statistics.fmean(known) if known else None


def _of_training(key: str) -> Callable[[Member], float | None]:
    return lambda m: r.figure(key) if (r := trained(m)) else None


Column = tuple[str, Callable[[Member], float | None], Callable[[float | None], str]]


def _columns(measure: Measure) -> list[Column]:
    """(title, value, its words) of all that a run may have reached."""
    points, percent = (lambda v: words.UNKNOWN if v is None else f"{100 * v:.2f}"), words.percent
    return [
        ("true accuracy", lambda m: _searched(m, "true_acc"), percent),
        ("regret (points)", lambda m: _searched(m, "regret"), points),
        (f"test {measure.name}", _test, measure.text),
        ("random cells", _random, measure.text),
        (f"validation {measure.name} in search", lambda m: _searched(m, f"val_{measure.key}"), measure.text),
        ("calibration error", _of_training("test_ece"), percent),
        ("parameters", _of_training("parameters"), words.count),
        ("FLOPs", _of_training("flops"), words.scaled),
        *(column for kind in KINDS for column in _priced(kind)),
        ("search time", lambda m: _searched(m, "seconds"), words.duration),
        ("search step", lambda m: _searched(m, "step_ms"), words.milliseconds),
        ("training time", _of_training("seconds"), words.duration),
    ]


def _priced(kind: str) -> Iterator[Column]:
    """What the network of the cell costs, of searches that mind costs of this ``kind``, and their target."""

    def of(m: Member) -> Price | None:
        return price if m.run.kind != "train" and (price := Price.of(m.run.space)) and price.kind == kind else None

    name, say = Price(kind, None).name, Price(kind, None).text
    yield f"{name} of the cell's network", lambda m: m.run.figure("cost") if of(m) else None, say
    yield f"target in {name}", lambda m: price.target if (price := of(m)) else None, say


def headline(found: Sequence[Member]) -> tuple[str, Callable[[Member], float | None], Measure]:
    """What the runs are compared by: the first of true accuracy, test and validation that any of them has."""
    measure = found[0].run.measure
    columns = [column for column in _columns(measure) if column[0].startswith(("true", "test", "validation"))]
    name, value, _ = next((c for c in columns if any(c[1](m) is not None for m in found)), columns[-1])
    return name, value, measure


def cards(found: Sequence[Member]) -> list[tuple[str, str]]:
    name, value, measure = headline(found)
    known = sorted(((v, m.name) for m in found if (v := value(m)) is not None), reverse=measure.higher)
    ended = sum(m.run.state == "complete" for m in found)
    cards = [("runs complete", f"{ended} of {len(found)}")]
    if known:
        cards.append((f"best {name}: {known[0][1]}", measure.text(known[0][0])))
        cards.append((f"median {name}", measure.text(statistics.median(v for v, _ in known))))
    return cards


def numbers(found: Sequence[Member]) -> list[Item]:
    columns = [c for c in _columns(found[0].run.measure) if any(c[1](m) is not None for m in found)]
    several = len({m.group for m in found}) > 1
    head = ("run", *(("group",) if several else ()), "seed", "state", *(name for name, *_ in columns))
    rows = [
        (
            m.name, *((m.group,) if several else ()), _seed(m), m.run.state,
            *(Cell(say(value(m)), value(m)) for _, value, say in columns),
        )
        for m in found
    ]  # fmt: skip
    return [
        *_groups(found),
        Table("runs", head, rows, "Every run; a click on a head sorts, a second one the other way"),
    ]


def _seed(m: Member) -> Cell:
    text = m.settings.get("seed", words.UNKNOWN)
    return Cell(text, number(int(text)) if text.isdigit() else None)


def _groups(found: Sequence[Member]) -> list[Item]:
    """Mean and spread of each group, where one has several runs; what differences mean is not for this page to say."""
    name, value, measure = headline(found)
    groups: dict[str, list[float]] = {}
    for m in found:
        if (v := value(m)) is not None:
            groups.setdefault(m.group, []).append(v)
    if not groups or max(map(len, groups.values())) < 2:
        return []
    best, worst = (max, min) if measure.higher else (min, max)
    rows = [
        (
            g,
            len(vs),
            Cell(measure.mean_sd(vs), statistics.fmean(vs)),
            *(Cell(measure.text(v), v) for v in (best(vs), worst(vs))),
        )
        for g, vs in sorted(groups.items(), key=lambda item: statistics.fmean(item[1]), reverse=measure.higher)
    ]
    return [
        Table(
            "groups",
            ("group", "n", f"{name}, mean ± sd", "best", "worst"),
            rows,
            "Runs that differ in their seed alone",
        )
    ]


def settings(found: Sequence[Member]) -> list[Section]:
    keys = [key for key in differing(found) if key not in ("seed", "genotype")]
    if not keys:
        return []
    shown = keys[:_SETTINGS]
    rows = [(m.name, *(m.settings.get(key, words.UNKNOWN) for key in shown)) for m in found]
    more = f"; {len(keys) - len(shown)} more are in their config.yaml" if len(keys) > len(shown) else ""
    table = Table("settings", ("run", *shown), rows, f"Settings in which the runs differ{more}")
    return [Section("What differs", [table], "settings")]
