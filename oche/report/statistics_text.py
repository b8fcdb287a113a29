"""Results of statistical tests as sentences and as rows of tables; `oche.analysis` computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oche.analysis import Interval, PairedComparison, Ranking, Summary, Undetermined, seeds_needed, smallest_p
from oche.analysis.paired_tests import ALPHA, Pair
from oche.core.errors import plural
from oche.report.format_numbers import UNKNOWN
from oche.report.html.page import CellContent, TableCell
from oche.report.metrics import Metric

#: share (%) of samples of n normal values whose 95 % interval holds the mean, by n: measured, see docs/statistics.md
COVERAGE = {3: 70, 5: 83, 10: 90, 20: 93}
_LISTED = 12  # pairs that a sentence lists, at most
PAIR_COLUMNS = (
    "one", "other", "verdict", "seeds", "difference", "95 % from", "95 % to", "p", "p (Holm)", "chance that one is better",
    "d",
)  # fmt: skip


# --- cells of tables ----------------------------------------------------------------------------------------------------


def difference_cell(value: float, metric: Metric, digits: int = 2) -> TableCell:
    """Write a difference with its sign, in points or in perplexity."""
    return TableCell(f"{metric.scale * value:+.{digits}f}", metric.scale * value)


def interval_cells(found: Interval | Undetermined, metric: Metric, signed: bool = False) -> tuple[TableCell, TableCell]:
    """Write the lower and the upper end of an interval; dashes where there is none."""
    if isinstance(found, Undetermined):
        return TableCell(UNKNOWN, None), TableCell(UNKNOWN, None)
    low, high = (TableCell(f"{metric.scale * x:{'+' if signed else ''}.2f}", metric.scale * x) for x in found)
    return low, high


def p_cell(p: float | None) -> TableCell:
    """Write a p-value with three digits."""
    if p is None:
        return TableCell(UNKNOWN, None)
    return TableCell("< 0.001" if p < 0.001 else f"{p:.3f}", p)


def pair_row(pair: Pair, metric: Metric) -> tuple[CellContent, ...]:
    """Return the row of a pair of groups, under `PAIR_COLUMNS`."""
    found = pair.result
    if isinstance(found, Undetermined):
        return (pair.a, pair.b, pair_conclusion(pair, metric), *[None] * (len(PAIR_COLUMNS) - 3))
    better = found.a12 if metric.higher else 1 - found.a12
    d = None if isinstance(found.d, Undetermined) else TableCell(f"{found.d:+.2f}", found.d)
    seeds = f"{found.n}" + (f" (without {', '.join(map(str, found.left_out))})" if found.left_out else "")
    return (
        pair.a, pair.b, pair_conclusion(pair, metric), TableCell(seeds, found.n), difference_cell(found.difference, metric),
        *interval_cells(found.interval, metric, True), p_cell(found.p), p_cell(pair.holm),
        TableCell(f"{100 * better:.0f} %", better), d,
    )  # fmt: skip


# --- sentences ----------------------------------------------------------------------------------------------------------


def is_significant(pair: Pair) -> bool:
    """Whether the two groups differ significantly, at 5 % over all pairs together (Holm's correction)."""
    return pair.holm is not None and pair.holm <= ALPHA


def pair_conclusion(pair: Pair, metric: Metric) -> str:
    """Write which group of a pair is better: "beta-darts is better", "no significant difference"."""
    if isinstance(pair.result, Undetermined):
        return f"cannot say: {pair.result}"
    if not is_significant(pair):
        return "no significant difference"
    return f"{pair.a if metric.better(pair.result.difference, 0.0) else pair.b} is better"


def pairs_summary(pairs: Sequence[Pair], metric: Metric) -> str:
    """Write which of all pairs differ significantly, or that these numbers of seeds cannot show any difference at 5 %."""
    known = [pair for pair in pairs if isinstance(pair.result, PairedComparison)]
    if not known:
        return f"These groups cannot be compared: {pairs[0].result}." if pairs else ""
    n = max(pair.result.n for pair in known if isinstance(pair.result, PairedComparison))
    many = len(known)
    if (least := min(1.0, many * smallest_p(n))) > ALPHA:
        corrected = f", and {least:.2g} after the correction for {many} comparisons" if many > 1 else ""
        return (
            f"With {plural(n, 'seed')} the smallest p that the test can give is {smallest_p(n):.3g}{corrected}: "
            f"no difference, however large, can be shown at 5 %. It takes {seeds_needed(many)} seeds. "
            "Intervals and effect sizes are valid all the same."
        )
    count = f"{plural(many, 'comparison')}, up to {plural(n, 'seed')} each"
    significant = [
        f"{pair_conclusion(pair, metric)} than {_worse(pair, metric)}" for pair in known if is_significant(pair)
    ]
    if not significant:
        return f"No two groups differ significantly at 5 % ({count}, Holm's correction). This does not show that they are equal."
    more = f"; and {len(significant) - _LISTED} more" if len(significant) > _LISTED else ""
    return f"Significant at 5 % ({count}, Holm's correction): {'; '.join(significant[:_LISTED])}{more}."


def _worse(pair: Pair, metric: Metric) -> str:
    assert isinstance(pair.result, PairedComparison)
    return pair.b if metric.better(pair.result.difference, 0.0) else pair.a


def ranking_summary(found: Ranking | Undetermined, block: str = "seed") -> str:
    """Write mean ranks over blocks, Friedman's test and Nemenyi's critical difference; ``block``: what one block is."""
    if isinstance(found, Undetermined):
        return f"No mean ranks: {found}."
    p = p_cell(found.p).text
    text = (
        f"Mean ranks over {len(found.blocks)} {block}s, 1 is best: "
        f"{', '.join(f'{name} {rank:.2f}' for name, rank in found.ranks.items())}. "
        f"Friedman's χ² = {found.chi2:.2f}, p {p if p.startswith('<') else f'= {p}'} by permutation; Nemenyi's critical "
        f"difference {found.difference:.2f}."
    )
    if found.p > ALPHA:
        return f"{text} The ranks do not differ significantly at 5 %, so the critical difference does not apply."
    return text


def coverage_warning(summaries: Mapping[str, Summary]) -> str:
    """Warn that bootstrap intervals of few seeds are too narrow; empty from 20 seeds on."""
    n = min((s.n for s in summaries.values() if not isinstance(s.interval, Undetermined)), default=None)
    if n is None or n >= 20:
        return ""
    known = max(k for k in COVERAGE if k <= n)
    return (
        f"Intervals of few seeds are too narrow: for n = {known} normal values the nominal 95 % interval holds the mean in "
        f"{COVERAGE[known]} % of cases."
    )
