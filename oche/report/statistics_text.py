"""What a comparison of groups comes to, in plain words and as the rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oche.analysis import CannotSay, Interval, Paired, Ranking, Summary, seeds_for, smallest_p
from oche.analysis.paired_tests import ALPHA, Pair
from oche.report.html.page import Cell, Content
from oche.report.metric_names import UNKNOWN, Measure

#: share of samples of a normal distribution whose mean lies within the interval, by n: measured, see docs/statistics.md
COVERAGE = {3: 70, 5: 83, 10: 90, 20: 93}
_NAMED = 12  # pairs that a sentence lists
PAIR_COLUMNS = (
    "one", "other", "verdict", "seeds", "difference", "95 % from", "95 % to", "p", "p (Holm)", "chance that one is better",
    "d",
)  # fmt: skip


def points(value: float, measure: Measure, digits: int = 2) -> Cell:
    """A difference, in points or in perplexity."""
    return Cell(f"{measure.scale * value:+.{digits}f}", measure.scale * value)


def ends(found: Interval | CannotSay, measure: Measure, signed: bool = False) -> tuple[Cell, Cell]:
    """The two ends of an interval; dashes where there is none."""
    if isinstance(found, CannotSay):
        return Cell(UNKNOWN, None), Cell(UNKNOWN, None)
    low, high = (Cell(f"{measure.scale * x:{'+' if signed else ''}.2f}", measure.scale * x) for x in found)
    return low, high


def p_text(p: float | None) -> Cell:
    if p is None:
        return Cell(UNKNOWN, None)
    return Cell("< 0.001" if p < 0.001 else f"{p:.3f}", p)


def pair_row(pair: Pair, measure: Measure) -> tuple[Content, ...]:
    """See `PAIR_COLUMNS`."""
    found = pair.result
    if isinstance(found, CannotSay):
        return (pair.a, pair.b, verdict(pair, measure), *[None] * (len(PAIR_COLUMNS) - 3))
    better = found.a12 if measure.higher else 1 - found.a12
    d = None if isinstance(found.d, CannotSay) else Cell(f"{found.d:+.2f}", found.d)
    seeds = f"{found.n}" + (f" (without {', '.join(map(str, found.left_out))})" if found.left_out else "")
    return (
        pair.a, pair.b, verdict(pair, measure), Cell(seeds, found.n), points(found.difference, measure),
        *ends(found.interval, measure, True), p_text(found.p), p_text(pair.holm), Cell(f"{100 * better:.0f} %", better), d,
    )  # fmt: skip


def differs(pair: Pair) -> bool:
    """Whether the two were told apart, at 5 % over all pairs together."""
    return pair.holm is not None and pair.holm <= ALPHA


def verdict(pair: Pair, measure: Measure) -> str:
    """ "beta-darts is better", "not told apart"."""
    if isinstance(pair.result, CannotSay):
        return f"cannot say: {pair.result}"
    if not differs(pair):
        return "not told apart"
    return f"{pair.a if measure.better(pair.result.difference, 0.0) else pair.b} is better"


def pairs_told(pairs: Sequence[Pair], measure: Measure) -> str:
    """What the pairs come to together, and what these numbers of seeds could have shown at all."""
    known = [pair for pair in pairs if isinstance(pair.result, Paired)]
    if not known:
        return f"Nothing can be said of these groups: {pairs[0].result}." if pairs else ""
    n = max(pair.result.n for pair in known if isinstance(pair.result, Paired))
    many = len(known)
    apart = [verdict(pair, measure) + f" than {_loser(pair, measure)}" for pair in known if differs(pair)]
    least = min(1.0, many * smallest_p(n))
    if least > ALPHA:
        one = f"the least p that the test can give is {smallest_p(n):.3g}"
        more = f", and {least:.2g} once corrected for {many} comparisons" if many > 1 else ""
        return (
            f"With {n} seeds {one}{more}: however large a difference is, it cannot be shown at 5 %. "
            f"It takes {seeds_for(many)} seeds. Intervals and effect sizes can be read all the same."
        )
    count = f"{many} comparison{'s' * (many > 1)}, up to {n} seeds each"
    if not apart:
        return f"No two groups could be told apart at 5 % ({count}, Holm's correction). That is no proof that they are equal."
    more = f"; and {len(apart) - _NAMED} more" if len(apart) > _NAMED else ""
    return f"Told apart at 5 % ({count}, Holm's correction): {'; '.join(apart[:_NAMED])}{more}."


def _loser(pair: Pair, measure: Measure) -> str:
    assert isinstance(pair.result, Paired)
    return pair.b if measure.better(pair.result.difference, 0.0) else pair.a


def ranking_told(found: Ranking | CannotSay, blocks: str = "seed") -> str:
    """Friedman's test and the groups that Nemenyi's critical difference leaves together."""
    if isinstance(found, CannotSay):
        return f"No mean ranks: {found}."
    n = len(found.blocks)
    p = p_text(found.p).text
    text = (
        f"Mean ranks over {n} {blocks}s, 1 is best: {', '.join(f'{name} {r:.2f}' for name, r in found.ranks.items())}. "
        f"Friedman's χ² = {found.chi2:.2f}, p {p if p.startswith('<') else f'= {p}'} by permutation; Nemenyi's critical "
        f"difference {found.difference:.2f}."
    )
    if found.p > ALPHA:
        return f"{text} The ranks do not differ more than by chance at 5 %, so the critical difference says nothing further."
    return text


def interval_told(summaries: Mapping[str, Summary]) -> str:
    """How far intervals of so few seeds can be trusted."""
    n = min((s.n for s in summaries.values() if not isinstance(s.interval, CannotSay)), default=None)
    if n is None or n >= 20:
        return ""
    known = max(k for k in COVERAGE if k <= n)
    return (
        f"Intervals are too narrow where seeds are few: of n = {known} normal values, an interval called 95 % holds the mean in "
        f"{COVERAGE[known]} % of cases."
    )
