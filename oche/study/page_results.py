"""The sections of a study's page that say how good its groups are, and which differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from oche.analysis import CannotSay, Ranking, Summary, improvement, pairwise, rank_groups, summarise
from oche.report.figures import Album
from oche.report.html.page import Cell, Content, Fold, Heading, Item, Prose, Section, Table, slug
from oche.report.plots import study as study_plots
from oche.report.statistics_text import PAIR_COLUMNS, ends, interval_told, pair_row, pairs_told, points, ranking_told
from oche.study.groups import Arena, Group

_INTERVALS = (
    "Every seed as a point, the mean as a bar, its 95 % bootstrap interval as a line; random cells, without a search, in "
    "the other colour."
)
_PAIRS = (
    "Seed by seed: the exact sign-flip permutation test of the mean difference (one minus other), two-sided, corrected by Holm; "
    "the chance that one seed of the one is better than one of the other (Vargha and Delaney's A); d: mean by standard deviation "
    "of the differences."
)
_ADDED = (
    "Relative improvement over random cells of the same space, trained the same way (1912.12522): 100 (found - random) / random "
    "of mean results. Random cells are what the space and the training reach by themselves."
)


def results(album: Album, arenas: Sequence[Arena]) -> Iterator[Section]:
    """What was reached, who is better, and what the searches add; nothing before a trial is finished."""
    known = [arena for arena in arenas if arena.results]
    if not known:
        yield Section("Results", [Prose("No trial has a result yet.")])
        return

    def each(make: Callable[[Arena], list[Item]]) -> list[Item]:
        return [item for arena in known for item in _headed(len(arenas) > 1, arena, make(arena))]

    yield Section("Results", each(lambda arena: _reached(album, arena)))
    yield Section("Who is better?", [*each(lambda arena: _compared(album, arena)), *_over(album, known)])
    yield Section("What the search adds", [Prose(_ADDED), *each(_added)])


def _headed(several: bool, arena: Arena, items: list[Item]) -> list[Item]:
    return [Heading(arena.name), *items] if several and items else items


# --- what was reached -------------------------------------------------------------------------------------------------


def _reached(album: Album, arena: Arena) -> list[Item]:
    summaries = summed(arena)
    columns = ("group", "n", "mean", "sd", "95 % from", "95 % to", "worst", "best", "parameters", "seeds")
    rows = [_row(arena, group, summaries[group.name]) for group in _ordered(arena)]
    name = slug(arena.name)
    lists = {group: [*values.values()] for group, values in arena.results.items()}
    controls = [group.name for group in arena.groups if group.control]
    drawing = study_plots.intervals(lists, summaries, arena.what, arena.measure, controls)
    told, unit = interval_told(summaries), arena.measure.unit
    return [
        album.plot(f"results-{name}", drawing, f"{arena.name}: {arena.what}. {_INTERVALS}"),
        Table(f"{name}-results", columns, rows, f"{arena.name}: {arena.what}" + (" in percent" if unit else "")),
        *([Prose(told, "muted")] if told else []),
    ]  # fmt: skip


def summed(arena: Arena) -> dict[str, Summary]:
    """Summaries of the groups that have results."""
    found = {name: summarise([*values.values()]) for name, values in arena.results.items()}
    return {name: summary for name, summary in found.items() if not isinstance(summary, CannotSay)}


def _ordered(arena: Arena) -> list[Group]:
    by_name = {group.name: group for group in arena.groups}
    return [by_name[name] for name in arena.results]


def _row(arena: Arena, group: Group, found: Summary) -> tuple[Content, ...]:
    measure = arena.measure

    def cell(value: float) -> Cell:
        return Cell(f"{measure.scale * value:.2f}", measure.scale * value)

    low, high = cell(found.least), cell(found.most)
    sizes = [*group.of("parameters").values()]
    seeds = ", ".join(map(str, sorted(group.of(arena.key))))
    mean_size = round(sum(sizes) / len(sizes)) if sizes else None
    return (
        group.name, found.n, cell(found.mean), None if isinstance(found.sd, CannotSay) else cell(found.sd),
        *ends(found.interval, measure), *((low, high) if measure.higher else (high, low)), mean_size, seeds,
    )  # fmt: skip


# --- who is better ----------------------------------------------------------------------------------------------------


def _compared(album: Album, arena: Arena) -> list[Item]:
    pairs = pairwise(arena.results)
    if not pairs:
        return [Prose("There is one group with results, and nothing to compare it with.")]
    name, told = slug(arena.name), pairs_told(pairs, arena.measure)
    table = Table(f"{name}-pairs", PAIR_COLUMNS, [pair_row(pair, arena.measure) for pair in pairs], _PAIRS)
    shown: list[Item] = [table] if len(pairs) <= 15 else [Fold(f"All {len(pairs)} pairs", [table])]
    found = rank_groups(arena.results, arena.measure.higher)
    return [Prose(told, "lead"), *shown, *_ranked(album, found, name, f"{arena.name}: mean ranks over seeds", "seed")]


def _ranked(album: Album, found: Ranking | CannotSay, name: str, title: str, block: str) -> list[Item]:
    if isinstance(found, CannotSay):
        return [Prose(ranking_told(found, block), "muted")]
    caption = (
        f"{title}. Groups joined by a bar do not differ by Nemenyi's critical difference, which corrects for all pairs"
    )
    drawing = study_plots.critical_difference(found, title)
    return [Prose(ranking_told(found, block)), album.plot(f"ranks-{name}", drawing, caption)]


def _over(album: Album, arenas: Sequence[Arena]) -> list[Item]:
    """Ranks over data sets, as Demšar means them, where three or more were tried."""
    if len(arenas) < 3:
        return []
    sign = {True: 1, False: -1}
    means = {
        name: {i: sign[a.measure.higher] * s.mean for i, a in enumerate(arenas) if (s := summed(a).get(name))}
        for name in dict.fromkeys(name for arena in arenas for name in arena.results)
    }
    found = rank_groups({name: of for name, of in means.items() if len(of) == len(arenas)})
    return [Heading("Over data sets"), *_ranked(album, found, "data", "Mean ranks over data sets", "data set")]


# --- what the search adds ---------------------------------------------------------------------------------------------


def _added(arena: Arena) -> list[Item]:
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
    rows = [_improved(arena, group) for group in _ordered(arena) if not group.control]
    return [Table(f"{slug(arena.name)}-over-random", columns, rows)] if rows else []


def _improved(arena: Arena, group: Group) -> tuple[Content, ...]:
    control, own = arena.control(group), [*group.of(arena.key).values()]
    random = [*control.of(arena.key).values()] if control else []
    found = improvement(own, random, arena.measure.higher)
    if isinstance(found, CannotSay):
        return (group.name, *[None] * 4, len(own), len(random), f"cannot say: {found}")
    difference = points(sum(own) / len(own) - sum(random) / len(random), arena.measure)
    percent = Cell(f"{found.percent:+.2f}", found.percent)
    if isinstance(found.interval, CannotSay):
        return (
            group.name, percent, None, None, difference, found.n, found.n_random, f"no interval: {found.interval}",
        )  # fmt: skip
    low, high = found.interval
    reading = "interval above 0" if low > 0 else "interval below 0" if high < 0 else "interval holds 0"
    return (
        group.name, percent, Cell(f"{low:+.2f}", low), Cell(f"{high:+.2f}", high), difference, found.n, found.n_random,
        reading,
    )  # fmt: skip
