"""Baselines that share the supernet: no logit moves, and the trained supernet ranks whole cells at the end."""

from __future__ import annotations

from dataclasses import replace

from oche.core.optimizers import Adam, Sgd
from oche.methods.catalog import listed
from oche.methods.discretize import Evolution, SampleBest, SampleMixture
from oche.methods.hypergradients import fixed
from oche.methods.published import BENCHMARK_SGD
from oche.methods.recipe import SearchRecipe
from oche.methods.sampled_paths import SampledPath
from oche.methods.score_function import ScoreFunction
from oche.methods.stochastic_relaxations import UniformPath
from oche.spaces.edge_variants import PathDropout
from oche.spaces.nasbench201 import NB201Space
from oche.spaces.nasbench201_ground_truth import PublishedAccuracy


@listed(  # the paper's own table; others quote 87.66 ± 1.69 from another version of it
    "random-ws", "Li & Talwalkar, 1902.07638", 2019, "random paths train the weights, the best of 1,000 is chosen",
    PublishedAccuracy("2001.00326", (84.07, 3.61), (52.31, 5.77), (26.28, 3.09)),
    {NB201Space: {"epochs": 250, "weight_optimizer": BENCHMARK_SGD}},
)  # fmt: skip
def random_ws(**fields) -> SearchRecipe:
    """Random search with weight sharing (1902.07638 §3.2): the architecture is not learned; the supernet ranks random
    cells.
    """
    return replace(SearchRecipe(relax=UniformPath(), hypergrad=fixed, select=SampleBest()), **fields)


@listed(
    "enas", "ENAS, 1802.03268", 2018, "sampled paths train the weights, a policy gradient moves the logits",
    PublishedAccuracy("2001.00326", (54.30, 0.0), (15.61, 0.0), (16.32, 0.0)),
)  # fmt: skip
def enas(**fields) -> SearchRecipe:
    """ENAS (1802.03268) with independent logits in place of the LSTM: see `oche.methods.sampled_paths`.

    Deviation 1: the weights' rate falls along one cosine. The released code restarts it after 10, 30 and 70 epochs.
    Deviation 2: logits move in every step, with two draws. The released code trains the weights for an epoch, then the controller
    for 30 steps of ten draws.
    Deviation 3: Adam has oche's epsilon, 1e-8, and no drop-path or auxiliary tower trains the supernet.
    """
    recipe = dict(
        relax=SampledPath(limit=1.1),
        hypergrad=ScoreFunction(samples=2, of="reward", entropy=1e-4),
        select=SampleMixture(),
        arch_optimizer=Adam(lr=0.0035, betas=(0.0, 0.999), decay=0.0),
        weight_optimizer=Sgd(lr=0.05, lr_min=0.0005, decay=1e-4, nesterov=True),
        epochs=150,
        batch=160,
    )
    return replace(SearchRecipe(), **{**recipe, **fields})


@listed("one-shot", "Bender et al., ICML 2018", 2018, "uniform mixture with path dropout, the best of 1,000 is chosen")
def one_shot(**fields) -> SearchRecipe:
    """One-shot search (Bender et al., ICML 2018): path dropout prepares the supernet for missing parts; it ranks random
    cells.
    """
    recipe = dict(hypergrad=fixed, arch_optimizer=Adam(init=0.0), edge=PathDropout(), select=SampleBest())
    return replace(SearchRecipe(), **{**recipe, **fields})


@listed("evolution-ws", "Real et al., 1802.01548", 2018, "random paths train the weights, evolution searches on them")
def evolution_ws(**fields) -> SearchRecipe:
    """Regularised evolution (1802.01548). Fitness is the accuracy in a supernet trained as in `random_ws`."""
    return replace(SearchRecipe(relax=UniformPath(), hypergrad=fixed, select=Evolution()), **fields)
