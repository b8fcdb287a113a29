"""Published methods for chains of blocks, which search under a cost: FBNet and ProxylessNAS. See `oche.methods.published`.

Both put the expected latency into the loss. With ``cost_form=None`` the latency acts in a step of its own, which aims at a
target (`oche.methods.cost_constraints.CostConstraint`).
"""

from __future__ import annotations

from dataclasses import replace
from math import exp

from oche.core.optimizers import Adam, Sgd
from oche.methods.catalog import listed
from oche.methods.cost_constraints import latency
from oche.methods.cost_in_loss import Added, LogPower, RewardRatio
from oche.methods.recipe import SearchRecipe
from oche.methods.score_function import ScoreFunction
from oche.methods.stochastic_relaxations import Concrete, GumbelHard, TwoPaths


@listed("fbnet", "FBNet, 1812.03443", 2018, "all blocks under a Gumbel softmax, loss times a power of log latency")
def fbnet(**fields) -> SearchRecipe:
    """FBNet (1812.03443 §3): a concrete sample of all blocks, temperature 5 · exp(−0.045 epoch), 90 epochs, the first 10 for the
    weights alone, and loss · 0.2 · log(latency)^0.6.

    Deviation 1: after 5 steps of the weights the architecture takes one, on the 20 % of the images that are its own. The paper
    trains the weights for a whole epoch on 80 %, then the architecture on the rest. Deviation 2: the search ends with the
    strongest block of each layer; the paper draws six networks and trains all of them.
    """
    recipe = dict(
        relax=Concrete(tau=(5.0, 5 * exp(-0.045 * 90)), anneal="geometric"), penalty=latency, cost_form=LogPower(),
        epochs=90, warmup=1 / 9, batch=192, split=0.8, arch_every=5, weight_optimizer=Sgd(lr=0.1, decay=1e-4, clip=0.0),
        arch_optimizer=Adam(lr=0.01, betas=(0.9, 0.999), decay=5e-4),
    )  # fmt: skip
    return replace(SearchRecipe(), **{**recipe, **fields})


@listed(
    "proxyless", "ProxylessNAS, 1812.00332", 2018, "two paths an edge, one of them active; latency added to the loss"
)
def proxyless(**fields) -> SearchRecipe:
    """ProxylessNAS (1812.00332 §3): binary gates on two paths, one architecture step in five, latency added to the loss.

    The first quarter of 160 epochs trains sampled paths alone (40 of them, then 120). Adam has no momentum and no decay,
    which would move logits that a step did not draw.

    Deviation 1: one cosine of the learning rate over the whole search; the released code has another one for the first
    quarter, from 0.05. Deviation 2: no label smoothing in the search.
    """
    recipe = dict(
        relax=TwoPaths(), penalty=latency, cost_form=Added(), epochs=160, warmup=0.25, batch=256, split=0.9, arch_every=5,
        weight_optimizer=Sgd(decay=4e-5, nesterov=True, clip=0.0),
        arch_optimizer=Adam(lr=1e-3, betas=(0.0, 0.999), decay=0.0),
    )  # fmt: skip
    return replace(SearchRecipe(), **{**recipe, **fields})


@listed(
    "proxyless-r", "ProxylessNAS, 1812.00332", 2018, "REINFORCE on the accuracy of sampled paths, here without a cost"
)
def proxyless_r(**fields) -> SearchRecipe:
    """ProxylessNAS with REINFORCE (1812.00332 §3.3.2): ten sampled networks a step, rewarded by accuracy.

    With a cost and a target, ``penalty=latency, target="5ms", cost_form=RewardRatio()``, the reward is the published accuracy ·
    (target / latency)^0.1. Without one it is the accuracy.
    """
    recipe = dict(relax=GumbelHard(), hypergrad=ScoreFunction(of="accuracy"), penalty=None, cost_form=RewardRatio())
    return proxyless(**{**recipe, **fields})
