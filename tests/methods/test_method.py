"""Published recipes, value by value, and methods as things to take apart and put together."""

from dataclasses import replace

import pytest

import oche
from oche import methods
from oche.core.eigenvalue_stop import EigenvalueStop
from oche.core.errors import OcheError
from oche.core.optimizers import Adam, ExponentiatedGradient, Sgd
from oche.methods.catalog import METHODS
from oche.methods.discretize import GreedyEdge, KeepOps, LimitSkips, Perturbation, Threshold, TopK
from oche.methods.hypergradients import FiniteDifference, Neumann, exact, first_order, joint
from oche.methods.method import Stage
from oche.methods.perturbations import Adversarial, RandomNoise
from oche.methods.regularizers import BetaDecay, DirichletKL, ZeroOne
from oche.methods.relaxations import EdgeNormalised, NodeSoftmax, Sigmoid, Softmax
from oche.methods.stochastic_relaxations import Concrete, Dirichlet, GumbelHard
from oche.spaces import AuxiliarySkip, PartialEdge, SkipDropout


@pytest.mark.parametrize("order", [1, 2])
def test_darts_is_recipe_b(order):
    m = methods.darts(order=order)
    assert (m.epochs, m.batch, m.split, m.method.warmup, m.steps, m.budget) == (50, 64, 0.5, 0.0, None, None)
    assert m.method.weight_optimizer == Sgd(lr=0.025, lr_min=0.001, momentum=0.9, decay=3e-4, clip=5.0)
    assert m.method.arch_optimizer == Adam(lr=3e-4, betas=(0.5, 0.999), decay=1e-3, init=1e-3)
    assert m.method.relax == Softmax() and m.method.select == TopK()
    assert m.method.hypergrad == (first_order if order == 1 else FiniteDifference(epsilon=0.01))


@pytest.mark.parametrize("order", [1, 2])
def test_the_seeds_own_recipe(order):
    m = methods.seed(order=order)
    assert m.epochs == 40 and m.batch == 64
    assert m.method.weight_optimizer == Sgd(lr=0.025, lr_min=0.0, momentum=0.9, decay=3e-4, clip=0.0)
    assert m.method.arch_optimizer == Adam(lr=3e-4, betas=(0.5, 0.999), decay=1e-3, init=0.0)
    assert m.method.hypergrad == methods.darts(order).method.hypergrad


def test_the_seeds_own_space():
    space = oche.spaces.seed()
    assert (space.nodes, space.stem, space.widen, space.affine, space.pool_norm) == (3, "none", "after", True, False)
    assert space.head == (2048, 1024, 256) and space.cells == 8 and space.skeleton.reduces_at == (2, 5)


@pytest.mark.parametrize(
    ("make", "hypergrad"),
    [(methods.one_level, joint), (methods.darts_exact, exact), (methods.implicit, Neumann())],
)
def test_the_others_differ_from_darts_by_their_gradient_alone(make, hypergrad):
    assert make() == replace(methods.darts(), hypergrad=hypergrad)


# What differs from recipe B, as the papers and the released codes have it (checked by hand; sources in docs/methods.md).
PUBLISHED = {
    "i-darts": dict(relax=NodeSoftmax()),
    "snas": dict(relax=Concrete((1.0, 0.03)), hypergrad=joint, epochs=150),
    "gdas": dict(relax=GumbelHard((10.0, 0.1), "chosen"), epochs=250),
    "drnas": dict(relax=Dirichlet(), penalty=DirichletKL(1e-3), arch_optimizer=Adam(3e-4, decay=0.0), epochs=100),
    "drnas-progressive": dict(
        relax=Dirichlet(), penalty=DirichletKL(1e-3), arch_optimizer=Adam(6e-4, decay=0.0),
        weight_optimizer=Sgd(0.1, 0.0), warmup=0.4,
        stages=(Stage(1, 2.5, 2.25, PartialEdge(6), KeepOps(4)), Stage(1, 2.5, 2.25, PartialEdge(4))),
    ),
    "fair-darts": dict(
        relax=Sigmoid(), penalty=ZeroOne(10.0), select=Threshold(0.85), batch=128, weight_optimizer=Sgd(0.005, 0.001),
        arch_optimizer=Adam(3e-3, (0.9, 0.999), 1e-3, 0.0),
    ),
    "pc-darts": dict(
        relax=EdgeNormalised(Softmax()), edge=PartialEdge(4), warmup=0.3, batch=256,
        weight_optimizer=Sgd(0.1, 0.0), arch_optimizer=Adam(6e-4),
    ),
    "darts-minus": dict(edge=AuxiliarySkip((1.0, 0.0))),
    "p-darts": dict(
        stages=(
            Stage(1, 5 / 8, 1, SkipDropout(0.0, 0.4), KeepOps(5)), Stage(1, 11 / 8, 1, SkipDropout(0.4, 0.4), KeepOps(3)),
            Stage(1, 17 / 8, 1, SkipDropout(0.7, 0.4)),
        ),
        warmup=0.4, epochs=75, batch=96, weight_optimizer=Sgd(0.025, 0.0), arch_optimizer=Adam(6e-4),
        select=LimitSkips(2, "normal"),
    ),
    "sgas-1": dict(decide=GreedyEdge(1, 9 / 50, 5 / 50, 4), batch_growth=8),
    "sgas-2": dict(decide=GreedyEdge(2, 9 / 50, 5 / 50, 4), batch_growth=8),
    "darts-pt": dict(select=Perturbation(), finetune_share=0.1),
    "sdarts-rs": dict(perturb=RandomNoise((0.03, 0.3))),
    "sdarts-adv": dict(perturb=Adversarial((0.03, 0.3), 7)),
    "robust-darts": dict(
        hypergrad=FiniteDifference(0.01), hessian_every=1, eigenvalue_stop=EigenvalueStop(0.75, 5, 5), on_collapse="rollback"
    ),
    "beta-darts": dict(penalty=BetaDecay((0.0, 25.0))),
    "gaea": dict(arch_optimizer=ExponentiatedGradient(0.1, 0.0, 1e-5, 0.0)),
    "gaea-pc-darts": dict(
        relax=EdgeNormalised(Softmax()), edge=PartialEdge(4), batch=256,
        weight_optimizer=Sgd(0.1, 0.0), arch_optimizer=ExponentiatedGradient(0.1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes(name):
    assert METHODS[name].make() == replace(methods.darts(), **PUBLISHED[name])


def test_a_method_is_put_together_from_parts():
    m = replace(methods.darts(), hypergrad=Neumann(terms=2), warmup=0.1, weight_optimizer=Sgd(lr=0.1))
    assert m.method.hypergrad.terms == 2 and m.method.warmup == 0.1 and methods.darts().method.warmup == 0.0


def test_impossible_orders_and_unknown_fields_are_refused():
    with pytest.raises(OcheError, match="order=3 does not exist; use order=1 or order=2"):
        methods.darts(order=3)
    with pytest.raises(OcheError, match="a search has no field 'epoch'; did you mean"):
        methods.darts(epoch=3)
    with pytest.raises(OcheError, match="warmup"):
        methods.darts(warmup=1.0)
