"""What may be said of results that differ from seed to seed. Values and functions; docs/statistics.md has the formulas.

Where too little is known to say something, a function returns `CannotSay` with the reason, never a NaN.
"""

from __future__ import annotations

from oche.analysis.paired_tests import Pair, Paired, compare, holm, pairwise, seeds_for, smallest_p
from oche.analysis.random_search_gain import Improvement, improvement
from oche.analysis.rank_correlation import Association, associate
from oche.analysis.rank_tests import Ranking, cliques, critical_difference, rank_groups
from oche.analysis.summary import ENOUGH, CannotSay, Interval, Summary, interval, summarise

__all__ = [
    "ENOUGH", "Association", "CannotSay", "Improvement", "Interval", "Pair", "Paired", "Ranking", "Summary", "associate",
    "cliques", "compare", "critical_difference", "holm", "improvement", "interval", "pairwise", "rank_groups", "seeds_for",
    "smallest_p", "summarise",
]  # fmt: skip
