"""Published recipes, value by value, and methods as things to take apart and put together."""

from dataclasses import replace

import pytest
import torch

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
from oche.runs.resolve import default_search
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
    "drnas": dict(relax=Dirichlet(), penalty=DirichletKL(1e-3), arch_optimizer=Adam(3e-4, decay=0.0), epochs=100,
                  none="in-cells"),
    "drnas-progressive": dict(
        relax=Dirichlet(), penalty=DirichletKL(1e-3), arch_optimizer=Adam(6e-4, decay=0.0),
        weight_optimizer=Sgd(0.1, 0.0), warmup=0.4,
        stages=(Stage(1, 2.5, 2.25, PartialEdge(6), KeepOps(4)), Stage(1, 2.5, 2.25, PartialEdge(4))), none="in-cells",
    ),
    "fair-darts": dict(
        relax=Sigmoid(), penalty=ZeroOne(10.0), select=Threshold(0.85), batch=128, weight_optimizer=Sgd(0.005, 0.001),
        arch_optimizer=Adam(3e-3, (0.9, 0.999), 1e-3, 0.0), none="in-cells",
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
    "sgas-1": dict(decide=GreedyEdge(1, 9 / 50, 5 / 50, 4, "all"), batch_growth=8),
    "sgas-2": dict(decide=GreedyEdge(2, 9 / 50, 5 / 50, 4, "all"), batch_growth=8),
    "darts-pt": dict(select=Perturbation(True, True), finetune_share=0.1, none="in-cells"),
    "sdarts-rs": dict(perturb=RandomNoise((0.03, 0.3)), none="in-cells"),
    "sdarts-adv": dict(perturb=Adversarial((0.03, 0.3), 7), none="in-cells"),
    "robust-darts": dict(
        hypergrad=FiniteDifference(0.01), hessian_every=1, eigenvalue_stop=EigenvalueStop(0.75, 5, 5), on_collapse="rollback"
    ),
    "beta-darts": dict(penalty=BetaDecay((0.0, 25.0)), none="in-cells"),
    "gaea": dict(arch_optimizer=ExponentiatedGradient(0.1, 0.0, 1e-5, 0.0)),
    "gaea-pc-darts": dict(
        relax=EdgeNormalised(Softmax()), edge=PartialEdge(4), batch=256,
        weight_optimizer=Sgd(0.1, 0.0), arch_optimizer=ExponentiatedGradient(0.1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes(name):
    assert METHODS[name].make() == replace(methods.darts(), **PUBLISHED[name])


BENCHMARK = {"weight_optimizer": Sgd(0.025, 0.001, decay=5e-4, nesterov=True)}
IN_BENCHMARK = {  # what released searches have otherwise on NAS-Bench-201
    "darts": BENCHMARK, "darts-2nd": BENCHMARK, "gdas": BENCHMARK, "random-ws": BENCHMARK | {"epochs": 250},
    "beta-darts": dict(epochs=100, penalty=BetaDecay((0.0, 50.0))), "darts-pt": dict(epochs=100, finetune_share=0.05),
    "sdarts-rs": dict(epochs=100), "sdarts-adv": dict(epochs=100),
    "drnas-progressive": dict(
        epochs=100, stages=(Stage(1, 1, 1, PartialEdge(4), KeepOps(3)), Stage(1, 1, 1, PartialEdge(2)))
    ),
    "gaea": dict(epochs=25, stages=(Stage(width=1.5),), none="never"),
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_recipes_on_the_benchmark(name):
    recipe = METHODS[name].for_space(oche.spaces.nb201())
    assert recipe == default_search("nb201", name).search == METHODS[name].make(**IN_BENCHMARK.get(name, {}))
    recipe.check(oche.spaces.nb201())
    assert METHODS[name].for_space(oche.spaces.nb201(), epochs=7).epochs == 7
    assert METHODS[name].for_space(oche.spaces.darts()) == default_search("darts", name).search == METHODS[name].make()


def test_gaea_searches_the_benchmark_with_24_channels():
    part = METHODS["gaea"].for_space(oche.spaces.nb201()).method.stages[0].of(oche.spaces.nb201())
    assert (part.channels, part.cells) == (24, 5)


@pytest.mark.parametrize("name", ["sdarts-rs", "sdarts-adv", "beta-darts"])
def test_recurrent_cells_are_searched_with_none(name):
    assert METHODS[name].for_space(oche.spaces.recurrent()).method.none == "always"


@pytest.mark.parametrize(
    "none, in_darts, in_benchmark", [("always", True, True), ("in-cells", False, True), ("never", False, False)]
)
def test_whether_none_is_a_candidate(none, in_darts, in_benchmark):
    method = methods.darts(none=none).method
    for space, there in ((oche.spaces.darts(), in_darts), (oche.spaces.nb201(), in_benchmark)):
        for group, dag in space.groups.items():
            want = torch.ones(len(dag), len(space.candidates), dtype=torch.bool)
            want[:, space.candidates.index("none")] = there
            assert torch.equal(method.first_mask(space, group), want)
    without = oche.spaces.darts(candidates=("skip_connect", "sep_conv_3x3"))
    assert method.first_mask(without, "normal").all()


def test_a_space_of_none_alone_cannot_go_without_it():
    space = oche.spaces.nb201(candidates=("none",))
    methods.darts().check(space)
    with pytest.raises(OcheError, match="none='never' leaves out the only candidate of the space"):
        methods.darts(none="never").check(space)


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
