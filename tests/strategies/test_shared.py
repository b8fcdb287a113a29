"""Strategies on a supernet's weights: a made supernet whose best architecture is known, and a search."""

from dataclasses import replace

import pytest
import torch

import oche
from decision_views import view
from oche.core.architecture import all_alive
from oche.core.errors import OcheError
from oche.methods.discretize import SampleBest
from oche.strategies import AgeingEvolution, ByStrategy, LocalSearch, on_shared_weights

CANDIDATES = ("none", "skip_connect", "nor_conv_3x3")
DAG = oche.spaces.nb201().dag


class Supernet:
    """Its accuracy is the sum of a table's entries on the edges, so the best candidate of each edge is the best cell."""

    def __init__(self, seed=0):
        self.table = torch.rand(6, 3, generator=torch.Generator().manual_seed(seed))
        alive = all_alive(DAG, 3)
        self.views = {"cell": view(alive.double(), alive, dag=DAG, names=CANDIDATES, group="cell",
                                   generator=torch.Generator().manual_seed(seed))}  # fmt: skip
        self.groups, self.asked = {"cell": DAG}, []

    def view(self, group):
        return self.views[group]

    def accuracy(self, alive, images=None):
        self.asked.append(images)
        return float((self.table * alive["cell"]).sum())

    def narrow(self, group, alive):
        self.chosen = alive


@pytest.mark.parametrize("strategy, queries", [(LocalSearch(), 300), (AgeingEvolution(), 700)])
def test_the_best_candidates_are_chosen(strategy, queries):
    supernet = Supernet()
    ByStrategy(strategy=strategy, queries=queries, images=64, finalists=3).conclude(supernet)
    assert (
        torch.equal(supernet.chosen.int().argmax(1), supernet.table.argmax(1)) and (supernet.chosen.sum(1) == 1).all()
    )
    assert supernet.asked[-3:] == [None] * 3 and set(supernet.asked[:-3]) == {64}
    assert len(supernet.asked) <= queries + 3  # a repeated architecture is not evaluated again


def test_the_seed_is_that_of_the_search():
    first, second = Supernet(), Supernet()
    for supernet in (first, second):
        ByStrategy(queries=20, images=None).conclude(supernet)
    assert torch.equal(first.chosen, second.chosen)


def test_decided_candidates_are_refused():
    supernet = Supernet()
    dead = all_alive(DAG, 3)
    dead[0, 0] = False
    supernet.views = {"cell": replace(supernet.views["cell"], alive=dead)}
    with pytest.raises(OcheError, match="among all candidates"):
        ByStrategy(queries=2).conclude(supernet)
    with pytest.raises(OcheError, match="queries=0"):
        ByStrategy(queries=0)


def test_a_search_with_a_strategy(tmp_path, quick):
    recipe = on_shared_weights(LocalSearch(starts=2), 6, steps=1, batch=8)
    assert recipe.method.select == ByStrategy(strategy=LocalSearch(starts=2), queries=6)
    assert oche.methods.random_ws().method.select == SampleBest()
    recipe = on_shared_weights(
        LocalSearch(), select=ByStrategy(strategy=LocalSearch(2), queries=6, images=8), steps=1, batch=8
    )
    space = oche.spaces.nb201(channels=2, cells=1)
    run = oche.search("digits", space=space, method=recipe, limit=40, out=tmp_path / "x")
    assert run.state == "complete" and len(run.genotype.cells["cell"].edges) == 6
    assert oche.Run.open(tmp_path / "x").config.search == run.config.search == recipe  # its file names the strategy
