"""What all spaces have in common: a genotype of uniform decisions, and the list of all genotypes."""

import random
from collections import Counter

from made_scores import moves
from oche.blackbox.moves import Moves


def test_draws_are_uniform_over_the_listed_genotypes():
    small = moves(("none", "skip_connect"))
    g = random.Random(0)
    counts = Counter(small.key(small.random(g)) for _ in range(6400))
    assert set(counts) == {small.key(cell) for cell in small.everything()} and len(counts) == 64
    assert sum((n - 100) ** 2 / 100 for n in counts.values()) < 110  # chi-square, 63 degrees of freedom
    assert Moves.default_encoding.fget(small) == "one-hot"
