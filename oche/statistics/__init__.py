"""What may be said of results that differ from seed to seed. Values and functions; docs/statistics.md has the formulas.

Where too little is known to say something, a function returns `CannotSay` with the reason, never a NaN.
"""

from __future__ import annotations

from .association import Association, associate
from .improvement import Improvement, improvement
from .pairs import Pair, Paired, compare, holm, pairwise, seeds_for, smallest_p
from .ranks import Ranking, cliques, critical_difference, rank_groups
from .summary import ENOUGH, CannotSay, Interval, Summary, interval, summarise

__all__ = [
    "ENOUGH", "Association", "CannotSay", "Improvement", "Interval", "Pair", "Paired", "Ranking", "Summary", "associate",
    "cliques", "compare", "critical_difference", "holm", "improvement", "interval", "pairwise", "rank_groups", "seeds_for",
    "smallest_p", "summarise",
]  # fmt: skip
