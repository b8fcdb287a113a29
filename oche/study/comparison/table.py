"""The results of a comparison: table.md with a row per method and strategy, table.csv with a row per search, and pictures.

Accuracies are shares of 1 in records and in table.csv, and percent in table.md and the picture.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oche.analysis import Undetermined, interval, pairwise, rank_groups
from oche.core.atomic_files import read_json, write_bytes
from oche.core.errors import plural
from oche.methods.catalog import METHODS, MethodEntry
from oche.report.comparison_page import write_comparison
from oche.report.format_numbers import format_mean_sd
from oche.report.metrics import ACCURACY
from oche.report.plots.nasbench201 import accuracy_by_method, accuracy_over_cost
from oche.report.plots.style import svg
from oche.report.read_run import holds_run, read_run
from oche.report.statistics_text import pairs_summary, ranking_summary
from oche.strategies.catalog import STRATEGIES, StrategyEntry
from oche.study.anytime import values_over_time
from oche.study.comparison.settings import COLUMNS, ComparisonConfig
from oche.study.comparison.strategies import StrategyResult, control, marks, read_results, searched_column

CONTROL = "random search, closed form"

if TYPE_CHECKING:
    from oche.core.console import Log
    from oche.spaces.nasbench201_ground_truth import GroundTruth
    from oche.study.comparison.settings import ComparisonConfig


def write_table(setting: ComparisonConfig, known: GroundTruth) -> None:
    """Write table.md and table.csv."""
    rows = [trial.row() for trial in setting.trials]
    write_bytes(setting.out / "table.md", markdown(setting, known, rows).encode())
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(setting.out / "table.csv", text.getvalue().encode())


def draw_pictures(setting: ComparisonConfig, known: GroundTruth) -> None:
    """Draw compare.svg, and incumbents.svg if there are strategies."""
    draw_picture(setting, known)
    draw_incumbents(setting, known)


def draw_picture(setting: ComparisonConfig, known: GroundTruth) -> None:
    """Draw compare.svg: the accuracy of every run, by method."""
    rows = [trial.row() for trial in setting.trials]
    reached = {m: [100 * row["true_acc"] for row in of] for m in setting.searched if (of := _rows_of(m, rows))}
    reached |= {result.name: result.final for result in read_results(setting)}
    if not reached:
        return
    stated = {name: _entry(name).published for name in reached}
    published = {name: found.on(known.column)[0] for name, found in stated.items() if found and found.on(known.column)}
    title = f"NAS-Bench-201, {_length(setting)} for each search"
    figure = accuracy_by_method(reached, 100 * known.best, statistics.fmean(_all_accuracies(known)), published, title)
    write_bytes(setting.out / "compare.svg", svg(figure).encode())


def draw_incumbents(setting: ComparisonConfig, known: GroundTruth) -> None:
    """Draw incumbents.svg: true accuracy over the seconds of a search, measured, or estimated for strategies on the table."""
    results, random = read_results(setting), control(setting, known)
    if not results or random is None or random.cost is None:
        return
    estimated = {result.name: result.mean_curve for result in results}
    estimated[CONTROL] = random.curve(marks(setting.asked))
    measured = {method: curves for method in setting.searched if (curves := _curves(setting, method))}
    figure = accuracy_over_cost(measured, estimated, 100 * known.best)
    write_bytes(setting.out / "incumbents.svg", svg(figure).encode())


def _curves(setting: ComparisonConfig, method: str) -> list[list[tuple[float, float]]]:
    """Return (seconds, true accuracy of the current cell) over each finished search of ``method``."""
    runs = [run for trial in setting.trials if trial.method == method and (run := trial.outcome())]
    found = [values_over_time(read_run(run.path).records, "true_acc") for run in runs]
    return [[*curve] for curve in found if curve]


def write_page(setting: ComparisonConfig) -> Path | None:
    """Write report.html, the page that `oche report` makes of the directory; None if there are fewer than two runs."""
    if sum(holds_run(trial.path) for trial in setting.trials) < 2:
        return None
    return write_comparison([setting.out], setting.out / "report.html")


def _rows_of(method: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of finished runs of ``method``."""
    return [row for row in rows if row["method"] == method and "true_acc" in row]


def _all_accuracies(known: GroundTruth) -> list[float]:
    """The accuracies of all cells of the table, in percent."""
    return known.table.accuracies(known.column).tolist()


# --- Markdown ---------------------------------------------------------------------------------------------------------

_HEAD = (
    "method", "true test accuracy (%)", "95 % interval", "regret (points)", "worst (%)", "n", "cost (h)", "ms per step", "steps",
    "peak memory (MB)", "CPU time (s)", "share of skips", "nodes decided", "published (%)",
)  # fmt: skip


# in the order in which a narrow terminal keeps them
_IMPORTANT = (
    "method", "true test accuracy (%)", "cost (h)", "regret (points)", "n", "95 % interval", "worst (%)", "ms per step", "steps",
)  # fmt: skip


def markdown(setting: ComparisonConfig, known: GroundTruth, rows: Sequence[dict[str, Any]]) -> str:
    """The table of finished runs, best method first, followed by the missing ones."""
    lines = [
        *_preface(setting, known),
        _line(_HEAD),
        _line(["---"] * len(_HEAD)),
        *map(_line, _cells(setting, known, rows)),
        *_compared(setting, rows),
        *_missing(setting),
    ]
    return "\n".join([*lines, ""])


def _cells(setting: ComparisonConfig, known: GroundTruth, rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The cells of the table, under `_HEAD`."""
    made = [
        (100 * statistics.fmean(r["true_acc"] for r in of), _method(m, of, known.column))
        for m in setting.searched
        if (of := _rows_of(m, rows))
    ]
    made += [(statistics.fmean(result.final), _strategy(result, known)) for result in read_results(setting)]
    best_first = [cells for _, cells in sorted(made, key=lambda pair: -pair[0])]
    return [*best_first, *_controls(setting, known), _random(known)]


def show_table(setting: ComparisonConfig, known: GroundTruth, log: Log) -> None:
    """Print the table of finished runs, as wide as the terminal, and what table.md says around it."""
    if log.quiet:
        return
    rows = [trial.row() for trial in setting.trials]
    log.paragraph("\n".join(_preface(setting, known)).removeprefix("# "))
    left_out = log.table(_HEAD, _cells(setting, known, rows), _IMPORTANT)
    if left_out:
        log.paragraph(f"\nnot shown for lack of room: {', '.join(left_out)}; they are in table.md")
    log.paragraph("\n".join([*_compared(setting, rows), *_missing(setting)]))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _preface(setting: ComparisonConfig, known: GroundTruth) -> list[str]:
    size = f"C = {setting.channels}, {plural(setting.cells, 'cell')} a stage (published: 16, 5)"
    batch = f"batch {setting.batch}" if setting.batch else "each method's own batch"
    searched = (
        f"{_provenance(setting)}{Path(setting.data).name}, {setting.limit or 'all'} training images, half of them to validate; "
        f"{size}; {batch}; selections of whole architectures try {setting.tried}."
    )
    over = f" over seeds {', '.join(map(str, setting.seeds))}" if setting.searched else ""
    return [
        f"# NAS-Bench-201, {_length(setting)} for each search",
        "",
        *([searched, ""] if setting.searched else []),
        f"True test accuracy: column {known.column} of the table, after 200 epochs of training at published size. "
        f"Mean ± sample standard deviation{over}. "
        f"Memory: the largest of the runs, the whole process (torch alone is some 250 MB). Published values are for "
        "full-size searches of published length.",
        *_cost_note(setting, known),
        "",
    ]


def _length(setting: ComparisonConfig) -> str:
    """Return the length of the searches in words."""
    parts = [" ".join(reversed(setting.length))] if setting.searched else []
    return " or ".join([*parts, *([plural(setting.asked, "query")] if setting.strategies else [])])


def _cost_note(setting: ComparisonConfig, known: GroundTruth) -> list[str]:
    """Return lines on what is measured and what is estimated; [] without strategies."""
    random = control(setting, known) if setting.strategies else None
    if random is None or random.cost is None:
        return []
    return [
        "",
        f"Strategies search on {searched_column(known)}, n runs of each. Cost: the measured time of a search. "
        "With ≈ it is estimated: a query of the table stands for 12 epochs of training, of which a repeated cell needs none "
        f"({random.cost.source}; a random cell {random.cost.mean:,.0f} s). Their CPU time is that of a run on the table.",
    ]


def _provenance(setting: ComparisonConfig) -> str:
    """Dates, versions and hardware of the finished runs, by their environment.json."""
    found = [run.path for trial in setting.trials if (run := trial.outcome())]
    made = [e for path in found if (e := read_json(path / "environment.json"))]
    if not made:
        return ""
    days = sorted({e["time"][:10] for e in made})
    on = {
        f"commit {(e['commit'] or 'unknown')[:12]}, torch {e['torch']}, {e.get('gpu') or e['cpu']}": None for e in made
    }
    dates = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{dates}, {'; '.join(on)}, {plural(setting.threads, 'thread')} a run, {setting.jobs} at a time. "


def _method(method: str, rows: Sequence[dict[str, Any]], column: str) -> list[str]:
    """The cells of a method's row, from its finished runs."""

    def all_of(name: str, unit: float = 1.0) -> list[float]:
        return [unit * row[name] for row in rows if row.get(name) is not None]

    return [
        method, format_mean_sd(true := all_of("true_acc", 100)), _interval(true), format_mean_sd(all_of("regret", 100)),
        f"{min(true):.2f}", str(len(rows)), f"{statistics.fmean(spent) / 3600:.2g}" if (spent := all_of("seconds")) else "–",
        format_mean_sd(all_of("step_ms"), 0), f"{statistics.median(all_of('steps')):.0f}",
        f"{max(memory):.0f}" if (memory := all_of("peak_mb")) else "–",
        f"{statistics.fmean(cpu):.0f}" if (cpu := all_of("cpu_s")) else "–",
        f"{statistics.fmean(all_of('skip_share')):.2f}", _decided(all_of("decided_nodes"), all_of("nodes")),
        _published(method, column),
    ]  # fmt: skip


def _decided(decided: Sequence[float], nodes: Sequence[float]) -> str:
    """Return how many nodes the searches decided, all seeds together, see `oche.analysis.decisions`."""
    return f"{sum(decided):.0f} of {sum(nodes):.0f}" if nodes else "–"


def _strategy(result: StrategyResult, known: GroundTruth) -> list[str]:
    """The cells of a strategy's row."""
    true, n = result.final, len(result.true)
    hours = statistics.fmean(row[-1] for row in result.seconds) / 3600
    regret = [100 * known.best - value for value in true]
    return [
        result.name, format_mean_sd(true), _interval(true), format_mean_sd(regret), f"{min(true):.2f}", str(n), f"≈ {hours:,.3g}",
        "–", plural(result.queries[-1], "query"), "–", f"{result.cpu_s / n:.2g}", "–", "–", _published(result.name, known.column),
    ]  # fmt: skip


def _controls(setting: ComparisonConfig, known: GroundTruth) -> list[list[str]]:
    """The row of random search in closed form; none if the table has no validation accuracies for the data."""
    if (random := control(setting, known)) is None:
        return []
    found = random(setting.asked)
    hours = "–" if random.cost is None else f"≈ {setting.asked * random.cost.mean / 3600:,.3g}"
    return [
        [
            CONTROL, f"{found.mean:.2f} ± {found.sd:.2f}", "–", f"{100 * known.best - found.mean:.2f} ± {found.sd:.2f}", "–",
            "exact", hours, "–", plural(setting.asked, "query"), "–", "–", "–", "–", _published("random", known.column),
        ]
    ]  # fmt: skip


def _entry(name: str) -> MethodEntry | StrategyEntry:
    return METHODS[name] if name in METHODS else STRATEGIES[name]


def _published(method: str, column: str) -> str:
    stated = _entry(method).published
    values = stated.on(column) if stated else ()
    return f"{' ± '.join(f'{v:.2f}' for v in values)} ({stated.source})" if stated and values else "–"


def _random(known: GroundTruth) -> list[str]:
    every = _all_accuracies(known)
    regret = 100 * known.best - statistics.fmean(every)
    name = "a random cell, the mean of all"
    cells = [name, format_mean_sd(every), "–", f"{regret:.2f}", f"{min(every):.2f}", f"{len(every):,}"]
    return [*cells, *["–"] * (len(_HEAD) - len(cells))]


def _interval(values: Sequence[float]) -> str:
    """The bootstrap interval of the mean; "–" for too few runs."""
    found = interval(values)
    return "–" if isinstance(found, Undetermined) else " to ".join(f"{end:.2f}" for end in found)


def _compared(setting: ComparisonConfig, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Sentences on the paired tests of methods over seeds, and on their mean ranks."""
    results = {m: {row["seed"]: row["true_acc"] for row in of} for m in setting.searched if (of := _rows_of(m, rows))}
    if len(results) < 2:
        return []
    return ["", pairs_summary(pairwise(results), ACCURACY), "", ranking_summary(rank_groups(results))]


def _missing(setting: ComparisonConfig) -> list[str]:
    """Lines on the missing runs: one for each method and reason."""
    reasons: dict[tuple[str, str], list[int]] = {}
    for trial in setting.trials:
        if not trial.outcome():
            reasons.setdefault((trial.method, trial.describe_outcome()), []).append(trial.seed)
    lines = [
        f"- {method}, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}: {why}"
        for (method, why), seeds in reasons.items()
    ]
    return ["", "Not there (yet):", "", *lines] if lines else []
