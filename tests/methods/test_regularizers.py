"""Penalties on the architecture against their formulas, in float64."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma, gammaln

from oche.core.architecture import Dag, all_alive
from oche.core.config.command_line import read_options
from oche.core.config.serialize import from_dict, to_dict
from oche.core.errors import OcheError
from oche.methods.regularizers import BetaDecay, Cost, DirichletKL, Penalty, Sum, ZeroOne, summands
from oche.methods.relaxations import EdgeNormalised, Sigmoid, Softmax
from oche.methods.stochastic_relaxations import Dirichlet
from oche.spaces import nb201

DAG = Dag(nodes=2)  # 2 + 3 edges
PRICES = (0.0, 3.0, -1.5)
PENALTIES = [
    ZeroOne(),
    BetaDecay(),
    BetaDecay((1.0, 3.0)),
    DirichletKL(),
    Cost(PRICES, 0.5),
    BetaDecay((1.0, 3.0)) + DirichletKL(),
]
every = pytest.mark.parametrize("penalty", PENALTIES, ids=repr)


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask(seed, share=0.6):
    return torch.rand((len(DAG), 3), generator=torch.Generator().manual_seed(seed)) < share


def value(penalty, a, alive, progress=0.5):
    return penalty(a, alive, Softmax()(a, alive, DAG, None, progress), progress)


def living(a, alive):
    return [[x for x, on in zip(*pair, strict=True) if on] for pair in zip(a.tolist(), alive.tolist(), strict=True)]


# --- formulas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_zero_one(seed):
    a, alive = 3 * normal((5, 3), seed), mask(seed)
    terms = [(1 / (1 + math.exp(-x)) - 0.5) ** 2 for row in living(a, alive) for x in row]
    assert value(ZeroOne(7.0), a, alive).item() == pytest.approx(-7 * sum(terms) / len(terms), rel=1e-12)
    assert ZeroOne().weight == 10
    alone = torch.zeros(5, 3, dtype=torch.bool)
    alone[1, 2] = True
    assert value(ZeroOne(7.0), a, alone).item() == pytest.approx(-7 * (a[1, 2].sigmoid().item() - 0.5) ** 2, rel=1e-12)


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0), (0.3, 7.5), (1.0, 25.0)])
def test_beta_decay_is_a_mean_of_log_sums_that_grows(progress, weight):
    a, alive = 3 * normal((5, 3), 1), mask(1)
    alive[2] = False
    terms = [math.log(sum(math.exp(x) for x in row)) for row in living(a, alive) if row]
    assert len(terms) < 5
    got = value(BetaDecay(), a, alive, progress).item()
    assert got == pytest.approx(weight * sum(terms) / len(terms), rel=1e-12)


def test_beta_decay_pulls_by_the_softmax():
    a = normal((5, 3), 2).requires_grad_()
    (gradient,) = torch.autograd.grad(value(BetaDecay(), a, all_alive(DAG, 3), 0.4), a)
    torch.testing.assert_close(gradient, 10 * a.detach().softmax(1) / 5, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_dirichlet_divergence_of_the_living(seed):
    a, alive = 2 * normal((5, 3), seed), mask(seed)
    alive[0], alive[1] = torch.tensor([False, True, False]), torch.tensor([False, False, False])
    total, library = 0.0, 0.0
    for row in living(a, alive):
        c = [x + 1 if x > 0 else math.exp(x) for x in row]
        if not c:
            continue
        total += gammaln(sum(c)) - sum(map(gammaln, c)) - gammaln(len(c))
        total += sum((x - 1) * (digamma(x) - digamma(sum(c))) for x in c)
        if len(c) > 1:
            here, flat = (
                torch.distributions.Dirichlet(torch.tensor(v, dtype=torch.float64)) for v in (c, [1.0] * len(c))
            )
            library += torch.distributions.kl_divergence(here, flat).item()
    got = value(DirichletKL(0.01), a, alive).item()
    assert got == pytest.approx(0.01 * total, rel=1e-9) and got == pytest.approx(0.01 * library, rel=1e-9)
    assert got > 0 and DirichletKL().weight == 1e-3


def test_dirichlet_divergence_is_least_at_the_anchor():
    anchor = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)  # concentration 1
    kl = value(DirichletKL(1.0), anchor, all_alive(DAG, 3))
    assert kl.item() == pytest.approx(0.0, abs=1e-12)
    assert torch.autograd.grad(kl, anchor)[0].abs().max() < 1e-12


def test_cost_is_the_expected_price():
    a, alive = normal((5, 3), 3), mask(3)
    want = 0.0
    for e in range(5):
        powers = [math.exp(a[e, o]) if alive[e, o] else 0.0 for o in range(3)]
        want += sum(p * price for p, price in zip(powers, PRICES, strict=True)) / (sum(powers) or 1.0)
    assert value(Cost(PRICES, 0.5), a, alive).item() == pytest.approx(0.5 * want, rel=1e-12)


# --- what holds for all of them ---------------------------------------------------------------------------------------


@every
def test_gradients_by_finite_differences(penalty):
    a, alive = normal((5, 3), 4).requires_grad_(), mask(4)
    assert torch.autograd.gradcheck(lambda a: value(penalty, a, alive), a)


@every
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_dead_play_no_part(penalty, seed, share, progress):
    alive = mask(seed, share)
    a = 2 * normal((5, 3), seed)
    leaf, moved = a.clone().requires_grad_(), torch.where(alive, a, 50.0)
    got = value(penalty, leaf, alive, progress)
    (gradient,) = torch.autograd.grad(got, leaf)
    assert got.shape == () and got.isfinite() and gradient.isfinite().all()
    assert (gradient[~alive] == 0).all()
    assert torch.equal(got, value(penalty, moved, alive, progress))
    if not alive.any():
        assert got == 0


@every
def test_edge_logits_are_not_looked_at(penalty):
    relax, alive = EdgeNormalised(), mask(5)
    a = normal((5, 4), 5).requires_grad_()
    got = penalty(a, alive, relax(a, alive, DAG, None, 0.5), 0.5)
    torch.testing.assert_close(got, value(penalty, a[:, :3], alive), rtol=1e-12, atol=0)
    assert (torch.autograd.grad(got, a)[0][:, 3] == 0).all()


@every
def test_logits_may_lie_elsewhere_than_masks(penalty):
    """The device "meta" computes nothing, but refuses to mix devices as a GPU does."""
    a = torch.zeros(5, 3, device="meta", dtype=torch.float64)
    assert value(penalty, a, mask(4)).device == a.device


def groups(*seeds):
    logits = [(normal((5, 3), seed), mask(seed, 0.3 + 0.2 * i)) for i, seed in enumerate(seeds)]
    return [(a, alive, Softmax()(a, alive, DAG, None, 0.5)) for a, alive in logits]


@pytest.mark.parametrize("penalty", [DirichletKL(), Cost(PRICES)], ids=repr)
def test_sums_add_up_over_groups(penalty):
    both = groups(6, 7)
    want = sum(penalty(*group, 0.5).item() for group in both)
    assert penalty.over(both, 0.5).item() == pytest.approx(want, rel=1e-12)


@dataclass(frozen=True)
class Growing(Penalty):
    """One of a user's own."""

    def __call__(self, a, alive, mix, progress):
        return progress * mix.ops.square().sum()


def test_every_group_is_told_of_the_progress():
    both = groups(6, 7)
    want = 0.25 * sum(mix.ops.square().sum().item() for *_, mix in both)
    assert Growing().over(both, 0.25).item() == pytest.approx(want, rel=1e-12)
    assert (Growing() + Growing()).over(both, 0.25).item() == pytest.approx(2 * want, rel=1e-12)


@pytest.mark.parametrize("penalty", [ZeroOne(), BetaDecay()], ids=repr)
def test_means_are_over_the_terms_of_all_groups(penalty):
    both = groups(6, 7)
    a, alive = (torch.cat([group[i] for group in both]) for i in (0, 1))
    assert both[0][1].sum() != both[1][1].sum()
    assert penalty.over(both, 0.5).item() == pytest.approx(penalty(a, alive, None, 0.5).item(), rel=1e-12)


def test_penalties_add():
    one, two, three = ZeroOne(), DirichletKL(), Cost(PRICES)
    total = one + two + three
    assert total == Sum((one, two, three)) and one + (two + three) == total
    both = groups(8, 9)
    want = sum(p.over(both, 0.5).item() for p in (one, two, three))
    assert total.over(iter(both), 0.5).item() == pytest.approx(want, rel=1e-12)
    want = sum(p(*both[0], 0.5).item() for p in (one, two, three))
    assert total(*both[0], 0.5).item() == pytest.approx(want, rel=1e-12)


# --- what they go with ------------------------------------------------------------------------------------------------


def test_a_penalty_on_the_weights_of_one_relaxation_goes_with_no_other():
    both = Sum((BetaDecay(), ZeroOne()))
    for penalty in (ZeroOne(), both):
        penalty.check(Sigmoid())
        penalty.check(EdgeNormalised(Sigmoid()))
        for relax, name in ((Softmax(), "Softmax"), (EdgeNormalised(Dirichlet()), "Dirichlet")):
            with pytest.raises(OcheError) as caught:
                penalty.check(relax)
            assert str(caught.value) == (
                f"ZeroOne is about the weights of Sigmoid, not of {name}; use relax=Sigmoid(), or another penalty"
            )
    for relax in (Softmax(), Sigmoid(), Dirichlet()):
        BetaDecay().check(relax)
    DirichletKL().check(Dirichlet())


def test_a_price_list_is_as_long_as_the_space_has_candidates():
    space = nb201(channels=2, cells=1, classes=3, image=(8, 8))
    right, short = Cost((0.0, 1.0, 2.0, 3.0, 4.0)), Cost(PRICES)
    for penalty in (right, ZeroOne(), ZeroOne() + right):
        penalty.check_space(space)
    for penalty in (short, ZeroOne() + short):
        with pytest.raises(OcheError) as caught:
            penalty.check_space(space)
        assert str(caught.value) == "costs has 3 numbers, but the space 5 candidates; write one for each"


def test_parts():
    assert summands(None) == () and summands(ZeroOne()) == (ZeroOne(),)
    assert summands(ZeroOne() + BetaDecay()) == (ZeroOne(), BetaDecay())


# --- settings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holder:
    penalty: Penalty | None = None


@every
def test_configurations_hold_them(penalty):
    assert from_dict(Holder(), to_dict(Holder(penalty))) == Holder(penalty)


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ("--penalty ZeroOne --penalty.weight 5", ZeroOne(5.0)),
        ("--penalty BetaDecay --penalty.weight 0 50", BetaDecay((0.0, 50.0))),
        ("--penalty Cost --penalty.costs 0 3 -1.5", Cost(PRICES)),
        ("--penalty Sum --penalty.parts ZeroOne DirichletKL", ZeroOne() + DirichletKL()),
    ],
)
def test_command_lines_name_them(words, want):
    assert from_dict(Holder(), read_options(Holder(), words.split(), "oche search"), None) == Holder(want)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: ZeroOne(-1.0), "ZeroOne: weight=-1.0 .*use weight >= 0"),
        (lambda: DirichletKL(math.nan), "DirichletKL: weight=nan"),
        (lambda: BetaDecay((0.0, -5.0)), r"weight=\(0.0, -5.0\).* both >= 0"),
        (lambda: Cost(()), r"costs=\(\).* write one for each candidate"),
        (lambda: Cost((1.0, math.inf)), "costs"),
        (lambda: Cost((1.0,), -1.0), "Cost: weight=-1.0"),
        (lambda: Sum(()), "no penalties"),
        (lambda: value(Cost((1.0, 2.0)), normal((5, 3), 1), all_alive(DAG, 3)), "costs has 2 numbers.* 3 candidates"),
    ],
)
def test_impossible_settings_are_refused(make, found):
    with pytest.raises(OcheError, match=found):
        make()
