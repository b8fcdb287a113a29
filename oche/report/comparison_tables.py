"""The tables of a comparison: results of every run, of groups of runs, and the settings in which the runs differ."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

from oche.analysis.summary import differ
from oche.report.comparison_runs import ComparedRun, differing_settings
from oche.report.format_numbers import (
    UNKNOWN,
    finite_float,
    format_count,
    format_duration,
    format_milliseconds,
    format_scaled,
)  # fmt: skip
from oche.report.html.page import Item, Section, Table, TableCell
from oche.report.metrics import COST_KINDS, CostTarget, Metric, percent
from oche.report.read_run import RunData
from oche.report.run_page import result_on_test

_SETTINGS = 24  # columns of the table of settings, at most
Value = Callable[[ComparedRun], float | None]
Column = tuple[str, Value, Callable[[float | None], str]]
"""(title, function that returns the value, function that writes it)"""


def tested_training(m: ComparedRun) -> RunData | None:
    """Return the first training with a test result: the run itself, or one of its cell."""
    runs = [m.run] if m.run.kind == "train" else [*m.trainings]
    return next((r for r in runs if result_on_test(r) is not None), None)


# --- results of runs ----------------------------------------------------------------------------------------------------


def _columns(metric: Metric) -> list[Column]:
    """Return all columns that the table of runs may have."""

    def points(value: float | None) -> str:
        return UNKNOWN if value is None else f"{100 * value:.2f}"

    return [
        ("true accuracy", _of_search("true_acc"), percent),
        ("regret (points)", _of_search("regret"), points),
        (f"test {metric.name}", lambda m: result_on_test(tested_training(m)), metric.text),
        ("balanced accuracy", lambda m: _chance(m)[0], percent),
        ("commonest class", lambda m: _chance(m)[1], percent),
        ("random cells", _mean_of_random_cells, metric.text),
        (f"validation {metric.name} in search", _of_search(f"val_{metric.key}"), metric.text),
        ("nodes decided", _share_decided, percent),
        ("calibration error", _of_training("test_ece"), percent),
        ("parameters", _of_training("parameters"), format_count),
        ("FLOPs", _of_training("flops"), format_scaled),
        *(column for kind in COST_KINDS for column in _cost_columns(kind)),
        ("search time", _of_search("seconds"), format_duration),
        ("search step", _of_search("step_ms"), format_milliseconds),
        ("training time", _of_training("seconds"), format_duration),
    ]


def _of_search(key: str) -> Value:
    return lambda m: None if m.run.kind == "train" else m.run.number(key)


def _of_training(key: str) -> Value:
    return lambda m: r.number(key) if (r := tested_training(m)) else None


def _share_decided(m: ComparedRun) -> float | None:
    """Return the share of nodes that a search decided, see `oche.analysis.decisions`."""
    decided, nodes = _of_search("decided_nodes")(m), _of_search("nodes")(m)
    return decided / nodes if decided is not None and nodes else None


def _chance(m: ComparedRun) -> tuple[float | None, float | None]:
    """Return balanced accuracy on the test part and the share of its commonest class."""
    return r.chance("test") if (r := tested_training(m)) else (None, None)


def _mean_of_random_cells(m: ComparedRun) -> float | None:
    known = [value for r in m.random if (value := result_on_test(r)) is not None]
    return statistics.fmean(known) if known else None


def _cost_columns(kind: str) -> Iterator[Column]:
    """Yield the columns of searches that optimise a cost of this ``kind``: the cost of the final network, and its target."""

    def of(m: ComparedRun) -> CostTarget | None:
        cost = None if m.run.kind == "train" else CostTarget.of(m.run.space)
        return cost if cost and cost.kind == kind else None

    name, text = CostTarget(kind, None).name, CostTarget(kind, None).text
    yield f"{name} of the final network", lambda m: m.run.number("cost") if of(m) else None, text
    yield f"target in {name}", lambda m: cost.target if (cost := of(m)) else None, text


def headline_metric(found: Sequence[ComparedRun]) -> tuple[str, Value, Metric]:
    """Return the result that the runs are compared by: the first of true accuracy, test and validation that any run has."""
    metric = found[0].run.metric
    columns = [column for column in _columns(metric) if column[0].startswith(("true", "test", "validation"))]
    name, value, _ = next((c for c in columns if any(c[1](m) is not None for m in found)), columns[-1])
    return name, value, metric


def headline_cards(found: Sequence[ComparedRun]) -> list[tuple[str, str]]:
    """Return the numbers at the top of the page: how many runs are complete, the best result and the median."""
    name, value, metric = headline_metric(found)
    known = sorted(
        ((v, m) for m in found if (v := value(m)) is not None), key=lambda pair: pair[0], reverse=metric.higher
    )
    complete = sum(m.run.state == "complete" for m in found)
    cards = [("runs complete", f"{complete} of {len(found)}")]
    if known:
        best, first = known[0]
        images = _images(first, name)
        level = [v for v, _ in known if not differ(v, best, images)]
        if len(level) == 1:
            cards.append((f"best {name}: {first.name}", metric.text(best)))
        elif len({*level}) == 1:
            cards.append((f"best {name}: the same in {len(level)} of {len(known)} runs", metric.text(best)))
        else:
            told = f"best {name}; {len(level)} of {len(known)} runs are too close to it for {images:,} images"
            cards.append((told, metric.text(best)))
        cards.append((f"median {name}", metric.text(statistics.median(v for v, _ in known))))
    return cards


def _images(m: ComparedRun, name: str) -> int | None:
    """Return the number of images that the accuracy called ``name`` was measured on; None where it is not known, or no sample."""
    if not name.startswith("test accuracy"):
        return None
    tested = tested_training(m)
    return tested.assessments[0][1].images if tested and tested.assessments else None


def result_tables(found: Sequence[ComparedRun]) -> list[Item]:
    """Return the table of groups, where a group has several runs, and the table of runs."""
    columns = [c for c in _columns(found[0].run.metric) if any(c[1](m) is not None for m in found)]
    several = len({m.group for m in found}) > 1
    head = ("run", *(("group",) if several else ()), "seed", "state", *(name for name, *_ in columns))
    rows = [
        (
            m.name, *((m.group,) if several else ()), _seed(m), m.run.state,
            *(TableCell(text(value(m)), value(m)) for _, value, text in columns),
        )
        for m in found
    ]  # fmt: skip
    return [*_groups(found), Table("runs", head, rows, "Every run; click a column's head to sort, again to reverse")]


def _seed(m: ComparedRun) -> TableCell:
    text = m.settings.get("seed", UNKNOWN)
    return TableCell(text, finite_float(int(text)) if text.isdigit() else None)


def _groups(found: Sequence[ComparedRun]) -> list[Item]:
    """Return the table of means and spreads, without any test of differences; none where no group has several runs."""
    name, value, metric = headline_metric(found)
    groups: dict[str, list[float]] = {}
    for m in found:
        if (v := value(m)) is not None:
            groups.setdefault(m.group, []).append(v)
    if not groups or max(map(len, groups.values())) < 2:
        return []
    best, worst = (max, min) if metric.higher else (min, max)
    ordered = sorted(groups.items(), key=lambda item: statistics.fmean(item[1]), reverse=metric.higher)
    rows = [
        (
            group, len(values), TableCell(metric.mean_sd(values), statistics.fmean(values)),
            *(TableCell(metric.text(v), v) for v in (best(values), worst(values))),
        )
        for group, values in ordered
    ]  # fmt: skip
    columns = ("group", "n", f"{name}, mean ± sd", "best", "worst")
    return [Table("groups", columns, rows, "Groups of runs that differ only in their seed")]


# --- settings -----------------------------------------------------------------------------------------------------------


def settings_sections(found: Sequence[ComparedRun]) -> list[Section]:
    """Return the table of settings in which the runs differ, if any."""
    keys = [key for key in differing_settings(found) if key not in ("seed", "genotype")]
    if not keys:
        return []
    shown = keys[:_SETTINGS]
    rows = [(m.name, *(m.settings.get(key, UNKNOWN) for key in shown)) for m in found]
    more = f"; {len(keys) - len(shown)} more are in their config.yaml" if len(keys) > len(shown) else ""
    table = Table("settings", ("run", *shown), rows, f"Settings in which the runs differ{more}")
    return [Section("Settings", [table], "settings")]
