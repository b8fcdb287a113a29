"""The cost inside the loss, against its formulas and gradients."""

import math

import pytest
import torch

from oche.core.architecture import Mix, alive_candidates
from oche.core.errors import OcheError
from oche.methods.cost_constraints import CostTarget, flops
from oche.methods.cost_in_loss import Added, LogPower, RewardRatio
from oche.methods.relaxations import Softmax
from oche.spaces import chain

LOSS, COST = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.7, 23.0))


@pytest.mark.parametrize(
    "form, target, strength, want",
    [
        (LogPower(unit=1.0), None, 1.0, 1.7 * 0.2 * math.log(23) ** 0.6),
        (LogPower(0.2, 0.3, 1.0), 80.0, 1.0, 1.7 * 0.2 * (math.log(23) / math.log(80)) ** 0.3),  # ProxylessNAS' code
        (LogPower(), None, 2.0, 1.7 * 0.2 * math.log(23_000) ** 1.2),
        (Added(), None, 1.0, 1.7 + 2.3),
        (Added(), 20.0, 2.0, 1.7 + 0.2 * 3 / 20),
        (RewardRatio(), 20.0, 1.0, 1.7 * (20 / 23) ** 0.1),
    ],
)
def test_forms(form, target, strength, want):
    assert float(form(LOSS, COST, target, strength).detach()) == pytest.approx(want, rel=1e-12)


def test_the_slope_of_the_published_form():
    value = LogPower(unit=1.0)(LOSS, COST, None, 1.0)
    (slope,) = torch.autograd.grad(value, COST)
    assert float(slope) == pytest.approx(0.6 / (23 * math.log(23)) * float(value.detach()), rel=1e-12)


@pytest.mark.parametrize(
    "refused, words",
    [
        (
            lambda: LogPower(unit=1.0).check(0.8, None),
            "at unit=1, where the cheapest network or the target costs 0.8",
        ),
        (lambda: LogPower(unit=1.0).check(3.0, 1.0), "not above 0"),
        (lambda: RewardRatio().check(1.0, None), "write a target"),
        (lambda: LogPower(alpha=0.0), "use alpha > 0"),
        (lambda: Added(weight=-1.0), "use weight >= 0"),
    ],
)
def test_what_is_refused(refused, words):
    with pytest.raises(OcheError, match=words):
        refused()
    LogPower(unit=1.0).check(1.5, None)


def test_a_form_takes_the_expected_cost_of_the_step_and_moves_nothing_itself():
    space = chain(
        first=("conv_k3_c4",), widths=(4,), layers=(2,), strides=(1,), last="conv_k1_c8", image=(8, 8), classes=3
    )
    alive = {"chain": space.alive("chain")}
    constraint = flops.constraint(space, Softmax(), CostTarget(None), form=Added(weight=1.0))
    ops = torch.zeros(2, 5, dtype=torch.float64)
    ops[0, 1], ops[1, 0] = 1, 1
    mixes = {"chain": Mix(ops, None, alive_candidates(alive["chain"]))}
    cheapest = constraint.costs.fixed + float(constraint.costs.groups["chain"][0, 1])
    assert float(constraint.in_loss(LOSS, mixes, alive)) == pytest.approx(1.7 + cheapest)
    a = torch.zeros(2, 5, requires_grad=True)
    constraint.step([a], [alive["chain"]], 0.0, 0.1)
    assert not a.any()
    plain = flops.constraint(space, Softmax(), CostTarget(None))
    assert plain.in_loss(LOSS, mixes, alive) is LOSS
    plain.step([a], [alive["chain"]], 0.0, 0.1)
    assert a.any()
