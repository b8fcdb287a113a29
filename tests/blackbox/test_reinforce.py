"""The policy gradient against autograd on all architectures, and the step against torch's Adam."""

from itertools import product

import numpy as np
import pytest
import torch

from made_scores import moves, score
from oche.blackbox.base import Report
from oche.blackbox.reinforce import Reinforce
from oche.core.errors import OcheError

SMALL = moves(("skip_connect", "nor_conv_3x3"))


@pytest.mark.parametrize("baseline", [0.0, 0.4, -3.0])
def test_the_mean_of_the_gradients_is_that_of_the_expected_score(baseline):
    policy = Reinforce(init=0.7).start(SMALL, 0)
    p = policy.probabilities()
    mean, logits = np.zeros_like(p), torch.tensor(policy.logits, requires_grad=True)
    expected = torch.tensor(0.0, dtype=torch.float64)
    for values in product(range(2), repeat=6):
        reward = score(SMALL.build(values))
        mean += np.prod(p[np.arange(6), values]) * policy.gradient(values, reward - baseline)
        expected = expected + logits.softmax(1)[torch.arange(6), torch.tensor(values)].prod() * reward
    expected.backward()
    assert mean == pytest.approx(-logits.grad.numpy(), abs=1e-12)


def test_a_step_is_adams():
    policy = Reinforce(lr=0.1, correct_bias=False).start(SMALL, 0)
    weights = torch.tensor(policy.logits, requires_grad=True)
    adam = torch.optim.Adam([weights], lr=0.1)
    average = 0.0
    for reward in (0.3, 0.9, 0.5):
        ask = policy.ask()
        chosen = SMALL.values(ask.genotype)
        average = 0.9 * average + 0.1 * reward
        loss = -(reward - average) * weights.log_softmax(1)[torch.arange(6), torch.tensor(chosen)].sum()
        adam.zero_grad()
        loss.backward()
        policy.tell(ask, Report(reward, 1.0))
        adam.step()
        assert policy.logits == pytest.approx(weights.detach().numpy(), abs=1e-9)


def test_the_corrected_average_of_equal_scores_gives_no_gradient():
    policy = Reinforce().start(SMALL, 0)
    before = policy.logits.copy()
    for _ in range(3):
        policy.tell(policy.ask(), Report(0.7, 1.0))
    assert policy.logits == pytest.approx(before, abs=0.1) and policy.average / (1 - 0.9**3) == pytest.approx(0.7)


def test_failures_teach_nothing():
    policy = Reinforce().start(SMALL, 0)
    before = policy.logits.copy()
    policy.tell(policy.ask(), Report.failed(1.0, 1.0, "no"))
    assert (policy.logits == before).all() and policy.seen == 0


def test_it_finds_the_best_operations_in_the_end():
    policy = Reinforce(lr=0.05).start(SMALL, 0)
    for _ in range(1500):
        ask = policy.ask()
        policy.tell(ask, Report(score(ask.genotype), 1.0))
    assert (policy.probabilities()[2:, 1] > 0.8).all()


def test_impossible_settings_are_refused():
    with pytest.raises(OcheError, match="lr=0"):
        Reinforce(lr=0)
