"""The table of strategies."""

import pytest

from oche.core.errors import OcheError
from oche.strategies import STRATEGIES, AgeingEvolution, Strategy, find_strategy, list_strategy


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_entry_is_complete(name):
    entry = STRATEGIES[name]
    assert isinstance(entry.make(), Strategy) and find_strategy(name) == entry.make()
    assert entry.paper and entry.differs and 2015 < entry.year < 2027


def test_names():
    assert find_strategy("evolution-worst") == AgeingEvolution(drop="worst")
    with pytest.raises(OcheError, match="did you mean 'local'"):
        find_strategy("locl")


def test_own_strategies_can_be_listed(monkeypatch):
    monkeypatch.setattr("oche.strategies.catalog.STRATEGIES", table := dict(STRATEGIES))
    list_strategy("mine", lambda: AgeingEvolution(20, 5))
    assert table["mine"].make().population == 20 and table["mine"].paper == AgeingEvolution.paper
