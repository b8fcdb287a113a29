"""Random search: uniform draws, with and without repeats."""

import random
from collections import Counter

import pytest

from made_scores import moves, played
from oche.blackbox.base import Done
from oche.blackbox.random_search import RandomSearch, unseen


def test_draws_are_uniform():
    small = moves(("none", "skip_connect"))
    counts = Counter(map(small.key, played(RandomSearch().start(small, 0), 6400, lambda cell: 0.0)))
    assert len(counts) == 64 and sum((n - 100) ** 2 / 100 for n in counts.values()) < 110  # 63 degrees of freedom


def test_without_repeats_the_space_is_exhausted():
    small = moves(("none", "skip_connect"))
    proposals = RandomSearch(repeats=False).start(small, 0)
    assert len(set(map(small.key, played(proposals, 64)))) == 64
    with pytest.raises(Done):
        proposals.ask()


def test_unseen_remembers():
    seen = set()
    small = moves(("skip_connect",))
    assert small.key(unseen(small, random.Random(0), seen)) in seen
    with pytest.raises(Done):
        unseen(small, random.Random(0), seen)
