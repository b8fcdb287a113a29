"""Exponentiated gradient on logits against the update of the weights themselves (2004.07802), in float64."""

import copy
import math
from dataclasses import dataclass

import pytest
import torch

from oche.core.architecture import Dag, all_alive
from oche.core.config.command_line import read_options
from oche.core.config.serialize import from_dict, to_dict
from oche.core.errors import OcheError
from oche.core.optimizers import Adam, ExponentiatedGradient, largest_logit_step
from oche.methods.relaxations import EdgeNormalised, NodeSoftmax, Softmax
from oche.methods.stochastic_relaxations import Concrete, GumbelHard

DAG = Dag(nodes=2)  # 2 + 3 edges
TIGHT = dict(rtol=1e-9, atol=1e-12)


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(mix):
    return mix.ops if mix.edges is None else torch.cat([mix.ops, mix.edges[:, None]], 1)


def members(relax, alive):
    simplices = relax.simplices(alive, DAG)
    return [simplices == number for number in simplices[simplices >= 0].unique()]


def naive(theta, slope, blocks, lr, decay=0.0, floor=0.0):
    """theta · exp(−lr · gradient), each block over its sum; then what is below the floor lifted, and over its sum again."""
    new = torch.zeros_like(theta)
    for block in blocks:
        t, g = theta[block].tolist(), slope[block].tolist()
        t = [x * math.exp(-lr * (s + decay * (math.log(x) + 1))) for x, s in zip(t, g, strict=True)]
        t = [max(x / sum(t), floor) for x in t]
        new[block] = torch.tensor([x / sum(t) for x in t], dtype=theta.dtype)
    return new


def start(relax, alive, seed=0):
    a = relax.init(DAG, alive.shape[1], 1.0, torch.Generator().manual_seed(seed)).double()
    return torch.where(relax.simplices(alive, DAG) >= 0, a, 7.0).requires_grad_()


MASK = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 0]]).bool()
relaxations = pytest.mark.parametrize("relax", [Softmax(), NodeSoftmax(), EdgeNormalised(), Concrete()], ids=repr)


@relaxations
@pytest.mark.parametrize("alive", [all_alive(DAG, 3), MASK], ids=["all", "some"])
@pytest.mark.parametrize(("decay", "floor"), [(0.0, 0.0), (0.3, 0.0), (0.05, 0.15)])
def test_logits_move_as_the_weights_would(relax, alive, decay, floor):
    a, blocks = start(relax, alive), members(relax, alive)
    optimizer = ExponentiatedGradient(lr=0.7, decay=decay, floor=floor).optimizer([a])
    optimizer.param_groups[0]["simplices"] = [relax.simplices(alive, DAG)]
    bend, target = normal((a.numel(), a.numel()), 1), normal(a.numel(), 2)

    def loss(theta):
        return ((bend @ theta.flatten()).tanh() - target).square().sum()

    theta = weights(relax(a, alive, DAG, None, 0.0)).detach()
    resting = relax.simplices(alive, DAG) < 0
    for _ in range(4):
        (a.grad,) = torch.autograd.grad(loss(weights(relax(a, alive, DAG, None, 0.0))), a)
        leaf = theta.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(leaf), leaf)
        optimizer.step()
        theta = naive(theta, slope, blocks, 0.7, decay, floor)
        torch.testing.assert_close(weights(relax(a, alive, DAG, None, 0.0)).detach(), theta, **TIGHT)
        for block in blocks:
            assert a.detach()[block].exp().sum().item() == pytest.approx(1.0, rel=1e-9)  # log-weights
        assert (a[resting] == 7).all()


def test_without_simplices_every_row_is_one():
    a, other = normal((5, 3), 1).requires_grad_(), normal((5, 3), 1).requires_grad_()
    optimizers = [ExponentiatedGradient().optimizer([t]) for t in (a, other)]
    optimizers[1].param_groups[0]["simplices"] = [Softmax().simplices(all_alive(DAG, 3), DAG)]
    for t, optimizer in zip((a, other), optimizers, strict=True):
        t.grad = normal((5, 3), 2)
        optimizer.step()
    assert torch.equal(a, other) and not torch.equal(a, normal((5, 3), 1))


def test_it_finds_the_best_corner_and_keeps_the_floor():
    price = normal((5, 3), 3)
    a = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    optimizer = ExponentiatedGradient(lr=0.5, floor=1e-3).optimizer([a])
    for _ in range(200):
        (a.grad,) = torch.autograd.grad((price * a.softmax(1)).sum(), a)
        optimizer.step()
    theta = a.detach().softmax(1)
    assert torch.equal(theta.argmax(1), price.argmin(1)) and (theta.max(1).values > 0.99).all()
    assert theta.min() >= 0.99e-3


def test_single_precision_and_lost_candidates_stay_finite():
    a = torch.tensor([[0.0, -200.0, -3e38], [0.0, 0.0, 0.0]], requires_grad=True)
    optimizer = ExponentiatedGradient(lr=10.0, floor=0.0).optimizer([a])
    for _ in range(3):
        (a.grad,) = torch.autograd.grad((a.softmax(1) * torch.tensor([1e3, 0.0, 1.0])).sum(), a)
        optimizer.step()
        assert a.softmax(1).isfinite().all()
    want = torch.tensor([0.0, 1.0, math.exp(-30)])  # three steps of 10 times a difference of 1
    torch.testing.assert_close(a.softmax(1)[1].detach(), want, rtol=1e-4, atol=0)


def test_a_weight_too_small_to_hold_has_no_slope_and_rests():
    a = torch.tensor([[0.0, -800.0]], dtype=torch.float64, requires_grad=True)  # exp(-800) is 0
    a.grad = torch.tensor([[0.5, 0.0]], dtype=torch.float64)
    ExponentiatedGradient(lr=2.0, floor=0.0).optimizer([a]).step()
    torch.testing.assert_close(a.detach(), torch.tensor([[0.0, -799.0]], dtype=torch.float64), rtol=1e-14, atol=0)


def test_the_largest_step_is_that_of_the_logarithm_of_a_weight():
    a, alive = normal((5, 3), 1).requires_grad_(), MASK
    optimizer = ExponentiatedGradient(lr=0.7, floor=0.0).optimizer([a])
    optimizer.param_groups[0]["simplices"] = [Softmax().simplices(alive, DAG)]
    assert largest_logit_step(optimizer) == 0
    before, a.grad = Softmax()(a, alive, DAG, None, 0.0).ops.detach(), normal((5, 3), 2).masked_fill(~alive, 0)
    optimizer.step()
    after = Softmax()(a, alive, DAG, None, 0.0).ops.detach()
    want = (after[alive].log() - before[alive].log()).abs().max().item()
    assert largest_logit_step(optimizer).item() == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("given", [True, False])
def test_logits_may_lie_elsewhere_than_simplices(given):
    """The device "meta" computes nothing, but refuses to mix devices as a GPU does."""
    a = torch.zeros(5, 3, device="meta", requires_grad=True)
    optimizer = ExponentiatedGradient().optimizer([a])
    if given:
        optimizer.param_groups[0]["simplices"] = [Softmax().simplices(MASK, DAG)]
    a.grad = torch.zeros_like(a)
    optimizer.step()
    assert largest_logit_step(optimizer).device == a.device


def test_what_has_no_gradient_rests():
    a, b = normal((2, 3), 1).requires_grad_(), normal((2, 3), 2).requires_grad_()
    a.grad = normal((2, 3), 3)
    ExponentiatedGradient().optimizer([a, b]).step()
    assert torch.equal(b.detach(), normal((2, 3), 2)) and not torch.equal(a.detach(), normal((2, 3), 1))


@pytest.mark.parametrize("settings", [ExponentiatedGradient(), Adam()], ids=repr)
def test_simplices_survive_a_checkpoint_whatever_the_optimiser(settings):
    def make():
        a = normal((5, 3), 1).requires_grad_()
        return a, settings.optimizer([a])

    def step(a, optimizer, seed):
        a.grad = normal((5, 3), seed)
        optimizer.step()

    (a, optimizer), (b, resumed), (c, plain) = make(), make(), make()
    optimizer.param_groups[0]["simplices"] = [NodeSoftmax().simplices(MASK, DAG)]
    step(a, optimizer, 4)
    step(c, plain, 4)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    with torch.no_grad():
        b.copy_(a)
    step(a, optimizer, 5)
    step(b, resumed, 5)
    step(c, plain, 5)
    assert torch.equal(a, b) and torch.equal(a, c) == isinstance(settings, Adam)


def test_gumbel_logits_are_log_weights_too():
    assert torch.equal(GumbelHard().simplices(MASK, DAG), Softmax().simplices(MASK, DAG))


@dataclass(frozen=True)
class Holder:
    a: Adam | ExponentiatedGradient = Adam()


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ("--a.lr 0.01", Adam(lr=0.01)),
        ("--a ExponentiatedGradient --a.floor 0", ExponentiatedGradient(floor=0.0)),
        ("--a Adam --a.decay 0", Adam(decay=0.0)),
    ],
)
def test_configurations_choose_the_optimiser(words, want):
    assert from_dict(Holder(), read_options(Holder(), words.split(), "oche search"), None) == Holder(want)
    assert from_dict(Holder(), to_dict(Holder(want))) == Holder(want)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExponentiatedGradient(lr=0),
        lambda: ExponentiatedGradient(lr=math.inf),
        lambda: ExponentiatedGradient(decay=-1.0),
        lambda: ExponentiatedGradient(floor=1.0),
        lambda: ExponentiatedGradient(floor=-1e-9),
        lambda: ExponentiatedGradient(init=math.nan),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(OcheError, match=r"; use lr > 0, decay >= 0, 0 <= floor < 1"):
        make()
