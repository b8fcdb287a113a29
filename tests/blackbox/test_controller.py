"""Controllers: probabilities over all architectures, the mean of the gradients, PPO against REINFORCE."""

from itertools import product

import pytest
import torch

from made_scores import moves, played, score
from oche.blackbox.base import Report
from oche.blackbox.controller import Controller, Policy
from oche.core.errors import OcheError

SMALL = moves(("skip_connect", "nor_conv_3x3"))
EVERY = torch.tensor([*product(range(2), repeat=6)])
REWARDS = torch.tensor([score(SMALL.build(row)) for row in EVERY.tolist()])


@pytest.fixture
def agent():
    return Controller(units=5, init=0.9).start(SMALL, 1)


def test_the_probabilities_of_all_architectures_sum_to_one(agent):
    uneven = Policy((3, 1, 2), units=4, layers=2, init=1.0, seed=0)
    every = torch.tensor([*product(range(3), range(1), range(2))])
    for policy, all_of in ((agent.policy, EVERY), (uneven, every)):
        log_p, entropy = policy(all_of)
        p = log_p.sum(1).exp()
        p = p.detach()
        assert float(p.sum()) == pytest.approx(1, abs=1e-6) and float(p.max()) > 1.2 / len(all_of)
        # the entropy of the whole is the mean of the sums along the paths
        assert float((p * entropy.detach().sum(1)).sum()) == pytest.approx(float(-(p * p.log()).sum()), abs=1e-5)


def test_drawn_decisions_have_the_probability_that_is_returned(agent):
    counts = torch.zeros(64)
    for _ in range(800):
        chosen, log_p = agent.policy.draw(agent.g)
        counts[int("".join(map(str, chosen)), 2)] += 1
        if counts.sum() <= 5:
            assert log_p == pytest.approx(float(agent.policy(torch.tensor([chosen]))[0].sum()), abs=1e-5)
    p = agent.policy(EVERY)[0].sum(1).exp().detach()
    assert float(((counts - 800 * p) ** 2 / (800 * p)).sum()) < 110  # chi-square, 63 degrees of freedom


@pytest.mark.parametrize("baseline", [0.0, 0.4, -3.0])
def test_the_mean_of_the_gradients_is_that_of_the_expected_score(agent, baseline):
    weights = [*agent.policy.parameters()]
    p = agent.policy(EVERY)[0].sum(1).exp()
    want = torch.autograd.grad(-(p * REWARDS).sum(), weights, retain_graph=True)
    advantages = p.detach() * (REWARDS - baseline) * len(EVERY)  # the loss takes a mean
    got = torch.autograd.grad(agent.loss(EVERY, torch.zeros(64), advantages), weights)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-4)


def test_the_first_step_of_ppo_is_that_of_reinforce(agent):
    ppo = Controller("ppo", units=5, init=0.9).start(SMALL, 1)
    chosen, advantages = EVERY[::7], REWARDS[::7] - 0.3
    old = ppo.policy(chosen)[0].sum(1).detach()
    got, want = (
        torch.autograd.grad(one.loss(chosen, old, advantages), [*one.policy.parameters()]) for one in (ppo, agent)
    )
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def test_ppo_ignores_gains_beyond_the_clip():
    ppo = Controller("ppo", units=5, init=0.9).start(SMALL, 1)
    old = ppo.policy(EVERY[:2])[0].sum(1).detach() + torch.tensor([-0.5, 0.5])  # ratios 1.65 and 0.61
    for advantages, still in (((1.0, 0.0), True), ((-1.0, 0.0), False), ((0.0, -1.0), True), ((0.0, 1.0), False)):
        gradients = torch.autograd.grad(ppo.loss(EVERY[:2], old, torch.tensor(advantages)), [*ppo.policy.parameters()])
        assert all(not g.any() for g in gradients) == still


@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
def test_good_operations_become_likely(algorithm):
    agent = Controller(algorithm, units=8, lr=0.03, decay=0.8).start(SMALL, 0)
    played(agent, 160)
    p = agent.policy(EVERY)[0].sum(1).exp()
    assert float((p * REWARDS).sum()) > 0.6 * float(REWARDS.max()) + 0.4 * float(REWARDS.mean())


def test_it_learns_after_a_batch_and_not_from_failures(agent):
    before = [p.clone() for p in agent.policy.parameters()]
    for i in range(19):
        agent.tell(agent.ask(), Report.failed(1.0, 1.0, "no") if i % 2 else Report(i / 10, 1.0))
    assert agent.batch == [] and agent.seen == 10
    assert any(not torch.equal(a, b) for a, b in zip(before, agent.policy.parameters(), strict=True))
    once = Controller(units=5, init=0.9, entropy=0.5).start(SMALL, 1)
    free = once.loss(EVERY[:1], torch.zeros(1), torch.zeros(1))
    assert float(free) == pytest.approx(-0.5 * float(once.policy(EVERY[:1])[1].mean()))


def test_impossible_settings_are_refused():
    for fields in (dict(units=0), dict(lr=0.0), dict(decay=1.0), dict(passes=0)):
        with pytest.raises(OcheError, match=f"{next(iter(fields))}="):
            Controller(**fields)
