"""The sections of a study's page with the results of its groups, and the tests of their differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from oche.analysis import Ranking, Summary, Undetermined, pairwise, rank_groups, relative_improvement, summarise
from oche.report.figures import FigureWriter
from oche.report.html.page import CellContent, Fold, Heading, Item, Prose, Section, Table, TableCell, slug
from oche.report.metrics import percent
from oche.report.plots import study as study_plots
from oche.report.statistics_text import (
    PAIR_COLUMNS,
    coverage_warning,
    difference_cell,
    interval_cells,
    pair_row,
    pairs_summary,
    ranking_summary,
)
from oche.study.groups import Comparison, Group

_INTERVALS = (
    "Every seed as a point, the mean as a bar, its 95 % bootstrap interval as a line; random cells (no search) in the other "
    "colour."
)
_CHANCE = "A network that always names the commonest class of these images is right for"
_PAIRS = (
    "Seed by seed: the exact sign-flip permutation test of the mean difference (one minus other), two-sided, corrected by Holm; "
    "the probability that a seed of the first is better than a seed of the second (Vargha and Delaney's A); d: mean divided by "
    "the standard deviation of the differences."
)
_ADDED = (
    "Relative improvement over random cells of the same space, trained the same way (1912.12522): 100 (found - random) / random "
    "of mean results. Random cells show what the space and the training reach without a search."
)


def result_sections(writer: FigureWriter, comparisons: Sequence[Comparison]) -> Iterator[Section]:
    """The sections with results, tests, and improvements over random cells; one sentence before a trial is finished."""
    known = [comparison for comparison in comparisons if comparison.results]
    if not known:
        yield Section("Results", [Prose("No trial has a result yet.")])
        return

    def each(make: Callable[[Comparison], list[Item]]) -> list[Item]:
        return [item for comparison in known for item in _headed(len(comparisons) > 1, comparison, make(comparison))]

    yield Section("Results", each(lambda comparison: _result_items(writer, comparison)))
    yield Section(
        "Who is better?", [*each(lambda comparison: _test_items(writer, comparison)), *_over_data_sets(writer, known)]
    )
    yield Section("What the search adds", [Prose(_ADDED), *each(_improvement_items)])


def _headed(several: bool, comparison: Comparison, items: list[Item]) -> list[Item]:
    return [Heading(comparison.name), *items] if several and items else items


# --- results ----------------------------------------------------------------------------------------------------------


def _result_items(writer: FigureWriter, comparison: Comparison) -> list[Item]:
    summaries = summarise_groups(comparison)
    columns = ("group", "n", "mean", "sd", "95 % from", "95 % to", "worst", "best", "parameters", "seeds")
    rows = [_row(comparison, group, summaries[group.name]) for group in _ordered(comparison)]
    name = slug(comparison.name)
    lists = {group: [*values.values()] for group, values in comparison.results.items()}
    controls = [group.name for group in comparison.groups if group.control]
    drawing = study_plots.intervals(lists, summaries, comparison.what, comparison.metric, controls)
    told, unit = coverage_warning(summaries), comparison.metric.unit
    return [
        writer.plot(f"results-{name}", drawing, f"{comparison.name}: {comparison.what}. {_INTERVALS}"),
        Table(f"{name}-results", columns, rows, f"{comparison.name}: {comparison.what}" + (" in percent" if unit else "")),
        *([Prose(told, "muted")] if told else []),
        *([] if (share := comparison.majority) is None else [Prose(f"{_CHANCE} {percent(share)} of them.", "muted")]),
    ]  # fmt: skip


def summarise_groups(comparison: Comparison) -> dict[str, Summary]:
    """The summaries of the groups that have results."""
    found = {name: summarise([*values.values()]) for name, values in comparison.results.items()}
    return {name: summary for name, summary in found.items() if not isinstance(summary, Undetermined)}


def _ordered(comparison: Comparison) -> list[Group]:
    by_name = {group.name: group for group in comparison.groups}
    return [by_name[name] for name in comparison.results]


def _row(comparison: Comparison, group: Group, found: Summary) -> tuple[CellContent, ...]:
    metric = comparison.metric

    def cell(value: float) -> TableCell:
        return TableCell(f"{metric.scale * value:.2f}", metric.scale * value)

    low, high = cell(found.least), cell(found.most)
    sizes = [*group.of("parameters").values()]
    seeds = ", ".join(map(str, sorted(group.of(comparison.key))))
    mean_size = round(sum(sizes) / len(sizes)) if sizes else None
    return (
        group.name, found.n, cell(found.mean), None if isinstance(found.sd, Undetermined) else cell(found.sd),
        *interval_cells(found.interval, metric), *((low, high) if metric.higher else (high, low)), mean_size, seeds,
    )  # fmt: skip


# --- tests ------------------------------------------------------------------------------------------------------------


def _test_items(writer: FigureWriter, comparison: Comparison) -> list[Item]:
    pairs = pairwise(comparison.results)
    if not pairs:
        return [Prose("There is one group with results, and nothing to compare it with.")]
    name, told = slug(comparison.name), pairs_summary(pairs, comparison.metric)
    table = Table(f"{name}-pairs", PAIR_COLUMNS, [pair_row(pair, comparison.metric) for pair in pairs], _PAIRS)
    shown: list[Item] = [table] if len(pairs) <= 15 else [Fold(f"All {len(pairs)} pairs", [table])]
    found = rank_groups(comparison.results, comparison.metric.higher)
    return [
        Prose(told, "lead"),
        *shown,
        *_rank_items(writer, found, name, f"{comparison.name}: mean ranks over seeds", "seed"),
    ]


def _rank_items(writer: FigureWriter, found: Ranking | Undetermined, name: str, title: str, block: str) -> list[Item]:
    if isinstance(found, Undetermined):
        return [Prose(ranking_summary(found, block), "muted")]
    caption = (
        f"{title}. Groups joined by a bar do not differ by Nemenyi's critical difference, which corrects for all pairs"
    )
    drawing = study_plots.critical_difference(found, title)
    return [Prose(ranking_summary(found, block)), writer.plot(f"ranks-{name}", drawing, caption)]


def _over_data_sets(writer: FigureWriter, comparisons: Sequence[Comparison]) -> list[Item]:
    """Ranks over data sets, as in Demšar (JMLR 2006), if the study has three or more."""
    if len(comparisons) < 3:
        return []
    sign = {True: 1, False: -1}
    means = {
        name: {
            i: sign[a.metric.higher] * s.mean for i, a in enumerate(comparisons) if (s := summarise_groups(a).get(name))
        }
        for name in dict.fromkeys(name for comparison in comparisons for name in comparison.results)
    }
    found = rank_groups({name: of for name, of in means.items() if len(of) == len(comparisons)})
    return [Heading("Over data sets"), *_rank_items(writer, found, "data", "Mean ranks over data sets", "data set")]


# --- improvement over random cells ------------------------------------------------------------------------------------


def _improvement_items(comparison: Comparison) -> list[Item]:
    columns = (
        "group",
        "relative improvement (%)",
        "95 % from",
        "95 % to",
        "difference",
        "n",
        "random cells",
        "reading",
    )
    rows = [_improvement_row(comparison, group) for group in _ordered(comparison) if not group.control]
    return [Table(f"{slug(comparison.name)}-over-random", columns, rows)] if rows else []


def _improvement_row(comparison: Comparison, group: Group) -> tuple[CellContent, ...]:
    control, own = comparison.control(group), [*group.of(comparison.key).values()]
    random = [*control.of(comparison.key).values()] if control else []
    found = relative_improvement(own, random, comparison.metric.higher)
    if isinstance(found, Undetermined):
        return (group.name, *[None] * 4, len(own), len(random), f"cannot say: {found}")
    difference = difference_cell(sum(own) / len(own) - sum(random) / len(random), comparison.metric)
    percent = TableCell(f"{found.percent:+.2f}", found.percent)
    if isinstance(found.interval, Undetermined):
        return (
            group.name, percent, None, None, difference, found.n, found.n_random, f"no interval: {found.interval}",
        )  # fmt: skip
    low, high = found.interval
    reading = "interval above 0" if low > 0 else "interval below 0" if high < 0 else "interval holds 0"
    return (
        group.name, percent, TableCell(f"{low:+.2f}", low), TableCell(f"{high:+.2f}", high), difference, found.n, found.n_random,
        reading,
    )  # fmt: skip
