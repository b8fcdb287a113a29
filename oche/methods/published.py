"""Published methods as compositions. A method is a value: take it apart and compose it anew with `dataclasses.replace`.

Every function returns a `oche.methods.recipe.SearchRecipe`. It takes fields of the recipe and of its
`oche.methods.method.Method`, which replace the published ones. ``docs/methods.md`` has the formulas, the numbered
deviations and the published results.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

from oche.core.errors import OcheError
from oche.core.optimizers import Adam, ExponentiatedGradient, Sgd
from oche.methods.catalog import listed
from oche.methods.discretize import GreedyEdge, KeepOps, LimitSkips, Perturbation, Threshold
from oche.methods.hypergradients import FiniteDifference, exact, first_order, joint
from oche.methods.hypergradients import Neumann as _Neumann
from oche.methods.method import Stage
from oche.methods.perturbations import Adversarial, RandomNoise
from oche.methods.recipe import SearchRecipe
from oche.methods.regularizers import BetaDecay, DirichletKL, ZeroOne
from oche.methods.relaxations import EdgeNormalised, NodeSoftmax, Sigmoid
from oche.methods.stochastic_relaxations import Concrete, Dirichlet, GumbelHard
from oche.spaces.darts_rnn import RecurrentSpace
from oche.spaces.edge_variants import AuxiliarySkip, PartialEdge, SkipDropout
from oche.spaces.nasbench201 import NB201Space
from oche.spaces.nasbench201_ground_truth import PublishedAccuracy

# --- DARTS and its gradients ------------------------------------------------------------------------------------------

# The benchmark's own searches (2001.00326; configs/nas-benchmark/algos of its code) have another optimizer of the weights.
BENCHMARK_SGD = Sgd(lr_min=0.001, decay=5e-4, nesterov=True)
_OF_BENCHMARK = {NB201Space: {"weight_optimizer": BENCHMARK_SGD}}

# Of either order: the cells found have skip connections only.
_SKIPS = PublishedAccuracy("2001.00326", (54.30, 0.0), (15.61, 0.0), (16.32, 0.0))


@listed(
    "darts-2nd", "DARTS, 1806.09055", 2018, "bilevel, one look-ahead step by finite differences", _SKIPS, _OF_BENCHMARK,
    order=2,
)  # fmt: skip
@listed(
    "darts", "DARTS, 1806.09055", 2018, "bilevel, first order: the weights are taken not to depend on alpha", _SKIPS,
    _OF_BENCHMARK,
)  # fmt: skip
def darts(order: int = 1, **fields) -> SearchRecipe:
    """DARTS (1806.09055): bilevel search. ``order=1`` takes the weights as they are, ``order=2`` looks one step ahead (eq.
    7–8).

    Raises `OcheError` for another ``order``.
    """
    if order not in (1, 2):
        raise OcheError(f"order={order} does not exist; use order=1 or order=2")
    return replace(SearchRecipe(hypergrad=first_order if order == 1 else FiniteDifference()), **fields)


@listed("one-level", "DARTS §4, 1806.09055", 2018, "weights and alpha together on the whole training set")
def one_level(**fields) -> SearchRecipe:
    """One-level search: weights and architecture descend one loss on the whole training set (1806.09055 §4; seed §1.1)."""
    return replace(SearchRecipe(hypergrad=joint), **fields)


@listed("exact", "DARTS eq. 6, 1806.09055", 2018, "the look-ahead step differentiated exactly")
def darts_exact(**fields) -> SearchRecipe:
    """DARTS with its one-step look-ahead differentiated exactly (1806.09055 eq. 6), without finite differences."""
    return replace(SearchRecipe(hypergrad=exact), **fields)


@listed(
    "implicit", "iDARTS, 2106.10784", 2021, "implicit gradient, inverse Hessian by a Neumann series",
    PublishedAccuracy("2106.10784", (93.58, 0.32), (70.83, 0.48), (40.89, 0.68)),
)  # fmt: skip
def implicit(**fields) -> SearchRecipe:
    """Implicit gradient at a lower optimum, by a Neumann series (1911.02590; iDARTS, 2106.10784 eq. 9)."""
    return replace(SearchRecipe(hypergrad=_Neumann()), **fields)


@listed("seed-2nd", "seed document §4.2", 2022, "the same with xi = learning rate > 0", order=2)
@listed("seed", "seed document §4.2", 2022, "DARTS first order, 40 epochs, alpha from zero, no clipping")
def seed(order: int = 1, **fields) -> SearchRecipe:
    """The recipe of the seed document (its §4.2): DARTS with 40 epochs, logits from zero, learning rate to zero, no
    clipping.
    """
    recipe = dict(epochs=40, weight_optimizer=Sgd(lr=0.025, lr_min=0.0, clip=0.0), arch_optimizer=Adam(init=0.0))
    return darts(order, **{**recipe, **fields})


# --- other relaxations ------------------------------------------------------------------------------------------------


@listed("i-darts", "I-DARTS, D19-1367", 2019, "one softmax over all candidates of all edges into a node")
def i_darts(**fields) -> SearchRecipe:
    """I-DARTS (Jiang et al., EMNLP 2019, D19-1367): the edges into a node compete, as their candidates do."""
    return replace(SearchRecipe(relax=NodeSoftmax()), **fields)


@listed(
    "snas", "SNAS, 1812.09926", 2018, "concrete samples, temperature 1 to 0.03, weights and alpha on one loss",
    PublishedAccuracy("in 2304.10970", (92.77, 0.83), (69.34, 1.98), (43.16, 2.64)),
)  # fmt: skip
def snas(**fields) -> SearchRecipe:
    """SNAS (1812.09926): one-level search on samples of a concrete distribution.

    The paper's cost of resources is the penalty `oche.methods.regularizers.Cost`.
    """
    return replace(SearchRecipe(relax=Concrete(), hypergrad=joint, epochs=150), **fields)


@listed(
    "gdas", "GDAS, 1910.04465", 2019, "one sampled candidate an edge, straight-through gradient, 250 epochs",
    PublishedAccuracy("2001.00326", (93.61, 0.09), (70.70, 0.30), (41.71, 0.98)), _OF_BENCHMARK,
)  # fmt: skip
def gdas(**fields) -> SearchRecipe:
    """GDAS (1910.04465): one candidate of each edge is evaluated, the largest after Gumbel noise; temperature 10 to 0.1."""
    return replace(SearchRecipe(relax=GumbelHard(), epochs=250), **fields)


@listed(
    "drnas", "DrNAS, 2006.10355", 2020, "mixtures drawn from a Dirichlet distribution, KL penalty; no stages",
    PublishedAccuracy("2006.10355", (94.36, 0.0), (73.51, 0.0), (46.34, 0.0)),
)  # fmt: skip
def drnas(**fields) -> SearchRecipe:
    """DrNAS (2006.10355), as on NAS-Bench-201: pathwise gradients through Dirichlet draws, 100 epochs, all channels."""
    recipe = dict(relax=Dirichlet(), penalty=DirichletKL(), arch_optimizer=Adam(decay=0.0), epochs=100, none="in-cells")
    return replace(SearchRecipe(), **{**recipe, **fields})


@listed(
    "drnas-progressive", "DrNAS, 2006.10355", 2020, "two stages: all candidates on 1/6 of the channels, 4 on 1/4",
    in_space={
        NB201Space: {"stages": (Stage(edge=PartialEdge(4), finish=KeepOps(3)), Stage(edge=PartialEdge(2))), "epochs": 100}
    },
)  # fmt: skip
def drnas_progressive(**fields) -> SearchRecipe:
    """DrNAS with progressive learning (2006.10355 §3.3): in the DARTS space 36 channels and 20 cells, for its 16 and 8."""
    stage = partial(Stage, width=36 / 16, depth=20 / 8)
    stages = (stage(edge=PartialEdge(6), finish=KeepOps(4)), stage(edge=PartialEdge(4)))
    recipe = dict(
        stages=stages, warmup=0.4, epochs=50, weight_optimizer=Sgd(lr=0.1), arch_optimizer=Adam(lr=6e-4, decay=0.0)
    )
    return drnas(**{**recipe, **fields})


@listed("fair-darts", "FairDARTS, 1911.12126", 2019, "sigmoids instead of a softmax, zero-one penalty, threshold")
def fair_darts(**fields) -> SearchRecipe:
    """FairDARTS (1911.12126): candidates do not compete; a penalty drives weights to 0 or 1, those of at least 0.85 stay."""
    recipe = dict(relax=Sigmoid(), penalty=ZeroOne(), select=Threshold(), batch=128, none="in-cells")
    rates = dict(
        weight_optimizer=Sgd(lr=0.005, lr_min=0.001), arch_optimizer=Adam(lr=3e-3, betas=(0.9, 0.999), init=0.0)
    )
    return replace(SearchRecipe(), **{**recipe, **rates, **fields})


# --- what stands on an edge -------------------------------------------------------------------------------------------


@listed(
    "pc-darts", "PC-DARTS, 1907.05737", 2019, "1/4 of the channels are mixed, edges are weighed, warm-up of 30 %",
    PublishedAccuracy("in 2006.10355", (93.41, 0.30), (67.48, 0.89), (41.31, 0.22)),
)  # fmt: skip
def pc_darts(**fields) -> SearchRecipe:
    """PC-DARTS (1907.05737): partial channel connections (§3.2), edge normalisation (§3.3), batches that fit into memory."""
    recipe = dict(
        relax=EdgeNormalised(),
        edge=PartialEdge(4),
        warmup=0.3,
        batch=256,
        weight_optimizer=Sgd(lr=0.1),
        arch_optimizer=Adam(lr=6e-4),
    )
    return replace(SearchRecipe(), **{**recipe, **fields})


@listed(
    "darts-minus", "DARTS-, 2009.01027", 2020, "an auxiliary skip beside every edge that fades from 1 to 0",
    PublishedAccuracy("2009.01027", (93.80,), (71.53,), (45.12,)),
)  # fmt: skip
def darts_minus(**fields) -> SearchRecipe:
    """DARTS- (2009.01027): an auxiliary skip connection helps training, so that the candidate skip connection need not."""
    return replace(SearchRecipe(edge=AuxiliarySkip()), **fields)


# --- stages and decisions ---------------------------------------------------------------------------------------------


@listed("p-darts", "P-DARTS, 1904.12760", 2019, "three ever deeper supernets, 8 to 5 to 3 candidates, at most 2 skips")
def p_darts(**fields) -> SearchRecipe:
    """P-DARTS (1904.12760): three stages of 5, 11 and 17 cells (for the space's 8), dropout on skip connections, 25 epochs
    each.

    Deviation 1 from the released code, whose README starts the dropout of the stages at 0.1, 0.4 and 0.7 (its options are 0
    by default): as in §4.2 of the paper for CIFAR-10, 0.0, 0.4 and 0.7. For CIFAR-100 the paper has 0.1, 0.2 and 0.3.
    """
    stages = (
        Stage(depth=5 / 8, edge=SkipDropout(0.0), finish=KeepOps(5)),
        Stage(depth=11 / 8, edge=SkipDropout(0.4), finish=KeepOps(3)),
        Stage(depth=17 / 8, edge=SkipDropout(0.7)),
    )
    recipe = dict(
        stages=stages,
        warmup=0.4,
        epochs=75,
        batch=96,
        weight_optimizer=Sgd(),
        arch_optimizer=Adam(lr=6e-4),
        select=LimitSkips(2),
    )
    return replace(SearchRecipe(), **{**recipe, **fields})


@listed("sgas-2", "SGAS, 1912.00195", 2019, "the same, and edges must have been stable over 4 epochs", criterion=2)
@listed("sgas-1", "SGAS, 1912.00195", 2019, "the best edge is settled every 5 epochs, by importance and certainty")
def sgas(criterion: Literal[1, 2] = 1, **fields) -> SearchRecipe:
    """SGAS (1912.00195): edges are settled one after the other, which frees memory for larger batches."""
    return replace(SearchRecipe(decide=GreedyEdge(criterion), batch_growth=8), **fields)


@listed(
    "darts-pt", "DARTS-PT, 2108.04392", 2021, "DARTS, but candidates are kept by what accuracy loses without them",
    PublishedAccuracy("2108.04392", (88.11,)), {NB201Space: {"epochs": 100, "finetune_share": 0.05}},
)  # fmt: skip
def darts_pt(**fields) -> SearchRecipe:
    """DARTS-PT (2108.04392): DARTS with perturbation-based selection. Any other method can use that selection, too.

    As in the released code the DARTS space is searched without "none".
    """
    return replace(SearchRecipe(select=Perturbation(), none="in-cells"), **fields)


# --- against collapse -------------------------------------------------------------------------------------------------


_OF_SDARTS = {NB201Space: {"epochs": 100}, RecurrentSpace: {"none": "always"}}


@listed(
    "sdarts-rs", "SDARTS-RS, 2002.05283", 2020, "weights train under mixtures moved at random, by 0.03 to 0.3",
    in_space=_OF_SDARTS,
)  # fmt: skip
def sdarts_rs(**fields) -> SearchRecipe:
    """SDARTS with random smoothing (2002.05283): weights train under randomly perturbed mixtures.

    As in the released code the DARTS space is searched without "none".
    """
    return replace(SearchRecipe(perturb=RandomNoise(), none="in-cells"), **fields)


@listed(
    "sdarts-adv", "SDARTS-ADV, 2002.05283", 2020, "the same, but moved to where the loss is worst, by 7 steps",
    in_space=_OF_SDARTS,
)  # fmt: skip
def sdarts_adv(**fields) -> SearchRecipe:
    """SDARTS with adversarial perturbation (2002.05283): weights train under mixtures that raise the loss most."""
    return replace(SearchRecipe(perturb=Adversarial(), none="in-cells"), **fields)


@listed("robust-darts", "RobustDARTS, 1909.09656", 2019, "second order, stopped and rolled back by the eigenvalue")
def robust_darts(**fields) -> SearchRecipe:
    """RobustDARTS' early stopping (1909.09656 §4.3): the dominant eigenvalue of the architecture's Hessian ends the search."""
    return replace(SearchRecipe(hypergrad=FiniteDifference(), hessian_every=1, on_collapse="rollback"), **fields)


@listed(
    "beta-darts", "beta-DARTS, 2203.01665", 2022, "a decay of the weights of the mixture that grows to 25",
    PublishedAccuracy("2203.01665", (94.36, 0.0), (73.51, 0.0), (46.34, 0.0)),
    {NB201Space: {"epochs": 100, "penalty": BetaDecay((0.0, 50.0))}, RecurrentSpace: {"none": "always"}},
)  # fmt: skip
def beta_darts(**fields) -> SearchRecipe:
    """β-DARTS (2203.01665): a decay of the weights of the mixture, which grows during the search.

    As in the released code the DARTS space is searched without "none".
    """
    return replace(SearchRecipe(penalty=BetaDecay(), none="in-cells"), **fields)


# --- another optimiser of the architecture ----------------------------------------------------------------------------


@listed(
    "gaea", "GAEA, 2004.07802", 2020, "exponentiated gradient instead of Adam, from uniform weights",
    in_space={NB201Space: {"epochs": 25, "stages": (Stage(width=24 / 16),), "none": "never"}},
)  # fmt: skip
def gaea(**fields) -> SearchRecipe:
    """GAEA (2004.07802 §3): exponentiated gradient steps on the simplices of the mixture's weights.

    Its released search on NAS-Bench-201 has 24 channels (for the space's 16), 25 epochs and no "none".

    Deviation 2 from that code: the rate of the weights falls to its end in 25 epochs, there to the middle of 50.
    """
    return replace(SearchRecipe(arch_optimizer=ExponentiatedGradient()), **fields)


@listed("gaea-pc-darts", "GAEA, 2004.07802", 2020, "PC-DARTS with exponentiated gradient, without warm-up")
def gaea_pc_darts(**fields) -> SearchRecipe:
    """GAEA on PC-DARTS (2004.07802), the composition that its published result is for."""
    return pc_darts(**{**dict(arch_optimizer=ExponentiatedGradient(), warmup=0.0), **fields})
