"""Baselines on shared weights as compositions. What they choose is tested with their selections."""

import pytest

from oche.methods.catalog import METHODS
from oche.methods.discretize import Evolution, SampleBest, SampleMixture
from oche.methods.hypergradients import fixed
from oche.methods.sampled_paths import SampledPath
from oche.methods.score_function import ScoreFunction
from oche.methods.stochastic_relaxations import UniformPath
from oche.spaces.edge_variants import PathDropout


@pytest.mark.parametrize(
    "name, relax, select",
    [("random-ws", UniformPath, SampleBest), ("one-shot", None, SampleBest), ("evolution-ws", UniformPath, Evolution)],
)
def test_no_logit_moves_and_the_supernet_ranks_cells(name, relax, select):
    method = METHODS[name].make().method
    assert method.hypergrad is fixed and type(method.select) is select and method.select.asks_supernet
    assert (type(method.relax) is relax) if relax else isinstance(method.edge, PathDropout)


def test_enas_moves_its_logits_by_the_reward_of_sampled_paths():
    method = METHODS["enas"].make().method
    assert (method.relax, method.hypergrad, method.select) == (
        SampledPath(1.1), ScoreFunction(2, "accuracy", entropy=1e-4), SampleMixture(),
    )  # fmt: skip
    assert method.arch_optimizer.lr == 0.0035 and METHODS["enas"].published.cifar10 == (54.30, 0.0)
