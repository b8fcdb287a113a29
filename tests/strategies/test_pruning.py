"""Pruning by scores: ranks by hand, removals by made scores, and a tiny supernet."""

import pytest
import torch

import oche
from oche.core.errors import OcheError
from oche.strategies.pruning import PruningConfig, prune, prune_by_scores, shared_ranks

NB201 = oche.spaces.nb201(candidates=("none", "skip_connect", "nor_conv_3x3", "avg_pool_3x3"))


def test_values_equal_to_three_digits_share_a_rank():
    assert shared_ranks([0.12341, 0.5, 0.12349, -2.0]) == [1, 2, 1, 0]


def table_measure(worth, regions):
    """κ and R that are sums over the living candidates: so falls are those of the candidate that is removed."""

    def measure(masks):
        kappa = 1e3 + sum(float((worth[n] * mask).sum()) for n, mask in masks.items())
        return kappa, 1e3 + sum(float((regions[n] * mask).sum()) for n, mask in masks.items())

    return measure


def test_what_makes_the_kernel_worst_and_the_regions_least_goes_first():
    g = torch.Generator().manual_seed(0)
    worth, same = {"cell": 100 * torch.rand(6, 4, generator=g)}, {"cell": torch.zeros(6, 4)}
    found = prune(NB201, table_measure(worth, same))
    left = worth["cell"][:, 1:].argmin(1) + 1  # every edge loses the candidates with the largest condition first
    assert [op for op, _, _ in found.genotype.cells["cell"].edges] == [NB201.candidates[o] for o in left]
    assert len(found.rounds) == 2 and [len(r) for r in found.rounds] == [6, 6]
    for e in range(6):
        first = next(o for _, edge, o in found.rounds[0] if edge == e)
        assert first == int(worth["cell"][e, 1:].argmax()) + 1
    found = prune(NB201, table_measure(same, worth))
    left = worth["cell"][:, 1:].argmax(1) + 1  # and those with the fewest regions
    assert [op for op, _, _ in found.genotype.cells["cell"].edges] == [NB201.candidates[o] for o in left]


def test_both_ranks_count():
    kappa, regions = {"cell": torch.zeros(6, 4)}, {"cell": torch.zeros(6, 4)}
    # of edge 0: skip is first by condition and last by regions, convolution second and first: 0 + 2 > 1 + 0
    kappa["cell"][0, 1:] = torch.tensor([300.0, 200.0, 0.0])
    regions["cell"][0, 1:] = torch.tensor([300.0, 100.0, 200.0])
    gone = prune(NB201, table_measure(kappa, regions)).rounds[0]
    assert next(o for _, e, o in gone if e == 0) == 2


def test_nodes_of_the_darts_space_keep_two_edges():
    space = oche.spaces.darts(nodes=2, candidates=("none", "skip_connect", "sep_conv_3x3"))
    g = torch.Generator().manual_seed(1)
    worth = {name: 100 * torch.rand(5, 3, generator=g) for name in ("normal", "reduce")}
    found = prune(space, table_measure(worth, {name: torch.zeros(5, 3) for name in worth}))
    assert [len(r) for r in found.rounds] == [10, 2]
    for name, cell in found.genotype.cells.items():
        best = worth[name][:, 1:].amin(1)
        dropped = 2 + int(best[2:].argmax())  # of the three edges into the second node
        kept = sorted({0, 1, 2, 3, 4} - {dropped})
        assert sorted((s, t) for _, s, t in cell.edges) == sorted(space.groups[name].edges[e] for e in kept)


def test_a_small_supernet_is_pruned_the_same_twice():
    space = oche.spaces.nb201(candidates=("none", "skip_connect", "nor_conv_3x3"))
    data = oche.data.load("digits", limit=20)
    config = PruningConfig(channels=2, batch=3, inputs=6, region_batches=1, repeats=1)
    found = prune_by_scores(space, data, seed=1, config=config)
    assert len(found.rounds) == 1 and "none" not in str(found.genotype)
    assert prune_by_scores(space, data, seed=1, config=config) == found


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(OcheError, match="for images"):
        prune_by_scores(oche.spaces.recurrent(), oche.data.load("digits", limit=20))
    with pytest.raises(OcheError, match="more than the"):
        prune_by_scores(NB201, oche.data.load("digits", limit=20), config=PruningConfig(batch=90))
    with pytest.raises(OcheError, match="batch=1"):
        PruningConfig(batch=1)
