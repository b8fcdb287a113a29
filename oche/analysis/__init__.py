"""Statistics of results that differ from seed to seed; docs/statistics.md has the formulas.

Where a number cannot be computed, functions return `Undetermined` with the reason, never a NaN.
"""

from __future__ import annotations

from oche.analysis.paired_tests import Pair, PairedComparison, compare_paired, holm, pairwise, seeds_needed, smallest_p
from oche.analysis.random_search_gain import RelativeImprovement, relative_improvement
from oche.analysis.rank_correlation import RankCorrelation, correlate_ranks
from oche.analysis.rank_tests import Ranking, cliques, critical_difference, rank_groups
from oche.analysis.summary import MIN_VALUES, Interval, Summary, Undetermined, interval, summarise

__all__ = [
    "MIN_VALUES", "Interval", "Pair", "PairedComparison", "RankCorrelation", "Ranking", "RelativeImprovement", "Summary",
    "Undetermined", "cliques", "compare_paired", "correlate_ranks", "critical_difference", "holm", "interval", "pairwise",
    "rank_groups", "relative_improvement", "seeds_needed", "smallest_p", "summarise",
]  # fmt: skip
