"""Sampled paths and their score function, against the enumeration of all draws of small cells."""

from itertools import permutations, product
from types import SimpleNamespace

import pytest
import torch

from oche.core.architecture import Dag, all_alive
from oche.core.errors import OcheError
from oche.methods.hypergradients import SgdStep, first_order
from oche.methods.policy_gradient import Draws, SampledPath, ScoreFunction
from oche.methods.recipe import SearchRecipe
from oche.training.losses import Objective

TWO = Dag(nodes=1, inputs=2, keep=2)  # two edges, both kept
CHOOSING = Dag(nodes=2, inputs=2, keep=2)  # edges 2 to 4 lead into the second node, which keeps two of them
ONE = Dag(nodes=1, inputs=3, keep=1)


def logits(dag, candidates=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(len(dag), candidates, generator=g, dtype=torch.float64)


def every_noise(dag, candidates=3):
    """One noise for each draw: candidates of all edges, and the order of the edges into each node that drops some."""
    choosing = [list(incoming) for incoming in dag.incoming if len(incoming) > dag.keep]
    for chosen in product(range(candidates), repeat=len(dag)):
        for orders in product(*(permutations(edges) for edges in choosing)):
            noise = torch.zeros(len(dag), candidates + 1, dtype=torch.float64)
            noise[range(len(dag)), chosen] = 100
            for order in orders:
                for place, e in enumerate(order):
                    noise[e, -1] = -100 * place
            yield noise


def draws_with_probabilities(dag, a, alive, relax):
    """Probability of each distinct ordered draw: the kept edges in order with their candidates."""
    found = {}
    for noise in every_noise(dag, a.shape[1]):
        choice, orders = relax._draw(a, alive, dag, noise)
        key = tuple((e, choice[e]) for order, kept in orders for e in order[:kept])
        found[key] = noise, float(relax.log_prob(a, alive, dag, noise).exp())
    return found


@pytest.mark.parametrize("dag", [TWO, ONE, Dag(nodes=1, inputs=3, keep=2)])
@pytest.mark.parametrize("limit", [None, 1.1])
def test_the_probabilities_of_all_draws_sum_to_one(dag, limit):
    a, alive = 2 * logits(dag), all_alive(dag, 3)
    found = draws_with_probabilities(dag, a, alive, SampledPath(limit))
    assert sum(p for _, p in found.values()) == pytest.approx(1, abs=1e-12)
    for noise, _ in found.values():
        mix = SampledPath(limit)(a, alive, dag, noise, 0.0)
        assert mix.ops.sum() == sum(min(dag.keep, len(i)) for i in dag.incoming) and mix.edges is None
    if limit is not None:  # limited logits keep the policy wide
        free = draws_with_probabilities(dag, a, alive, SampledPath())
        assert max(p for _, p in found.values()) < max(p for _, p in free.values())


def test_dead_candidates_and_edges_are_never_drawn():
    a, alive = logits(ONE), all_alive(ONE, 3)
    alive[0] = False
    alive[1, 2] = False
    found = draws_with_probabilities(ONE, a, alive, SampledPath())
    assert {key[0] for key in found} == {(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)}
    assert sum(p for _, p in found.values()) == pytest.approx(1, abs=1e-12)


def test_drawn_paths_have_the_probabilities():
    a, alive, relax = logits(CHOOSING), all_alive(CHOOSING, 3), SampledPath()
    g = torch.Generator().manual_seed(3)
    first = torch.zeros(3, 3)
    for _ in range(600):
        noise = relax.noise(CHOOSING, 3, g)
        mix = relax(a, alive, CHOOSING, noise, 0.0)
        assert [int(mix.ops[e].sum()) for e in (0, 1)] == [1, 1] and int(mix.ops[2:].sum()) == 2
        assert mix.active == tuple(tuple(row.nonzero()[:, 0].tolist()) for row in mix.ops)
        choice, orders = relax._draw(a, alive, CHOOSING, noise)
        first[orders[1][0][0] - 2, choice[orders[1][0][0]]] += 1
    joint = a[2:].flatten().softmax(0).reshape(3, 3)  # one softmax over all edges and candidates of the node
    assert float(((first - 600 * joint) ** 2 / (600 * joint)).sum()) < 27  # chi-square, 8 degrees of freedom
    calm = relax(a, alive, CHOOSING, None, 0.0)
    torch.testing.assert_close(calm.ops[2:] * calm.edges[2:, None], joint)


class Loss:
    """A sampled loss whose reward is known."""

    def __init__(self, log_prob, reward, again=None):
        self.earned, self.draws = torch.tensor(reward, dtype=torch.float64), Draws(log_prob, again)

    def __call__(self, w, a):
        return -3 * self.earned

    def reward(self):
        return self.earned


@pytest.mark.parametrize("by, factor", [("reward", 1.0), ("loss", 3.0)])
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_the_mean_of_the_estimates_is_the_gradient_of_the_expected_reward(by, factor, shift):
    relax, alive, a = SampledPath(1.5), all_alive(TWO, 3), logits(TWO)
    found = [*draws_with_probabilities(TWO, a, alive, relax).values()]
    rewards = torch.rand(len(found), generator=torch.Generator().manual_seed(1), dtype=torch.float64) + shift
    leaf = a.clone().requires_grad_()
    log_p = [lambda t, n=noise: relax.log_prob(t[0], alive, TWO, n) for noise, _ in found]
    expected = sum(f((leaf,)).exp() * r for f, r in zip(log_p, rewards, strict=True))
    (want,) = torch.autograd.grad(-factor * expected, leaf)
    mean = torch.zeros_like(a)
    estimate = ScoreFunction(samples=2, entropy=0.0, by=by)
    for i, (_, p) in enumerate(found):
        for j, (_, q) in enumerate(found):
            other = Loss(log_p[j], float(rewards[j]))
            loss = Loss(log_p[i], float(rewards[i]), lambda m, other=other: other)
            mean += p * q * estimate(None, loss, (), (a,), SgdStep(0.1))[0]
    torch.testing.assert_close(mean, want, atol=1e-10, rtol=0)


def test_the_entropy_in_the_reward_is_the_gradient_of_the_entropy():
    relax, alive, a = SampledPath(), all_alive(TWO, 3), logits(TWO)
    found = [*draws_with_probabilities(TWO, a, alive, relax).values()]
    leaf = a.clone().requires_grad_()
    (want,) = torch.autograd.grad(-torch.special.entr(leaf.softmax(1)).sum(), leaf)
    mean = torch.zeros_like(a)
    log_p = [lambda t, n=noise: relax.log_prob(t[0], alive, TWO, n) for noise, _ in found]
    for i, (_, p) in enumerate(found):
        for j, (_, q) in enumerate(found):
            loss = Loss(log_p[i], 0.0, lambda m, j=j: Loss(log_p[j], 0.0))
            mean += p * q * ScoreFunction(entropy=1.0)(None, loss, (), (a,), SgdStep(0.1))[0]
    torch.testing.assert_close(mean, want, atol=1e-10, rtol=0)


def test_the_reward_of_images_is_their_accuracy():
    net = SimpleNamespace()
    objective = Objective(net, {}, (), lambda a: {}, torch.zeros(4, 1), torch.tensor([0, 1, 1, 2]))
    objective.logits = torch.eye(3)[[0, 1, 2, 2]]
    assert float(objective.reward()) == 0.75


def test_parts_that_do_not_go_together_are_refused():
    with pytest.raises(OcheError, match="do not go together"):
        SearchRecipe(relax=SampledPath())
    with pytest.raises(OcheError, match="do not go together"):
        SearchRecipe(hypergrad=ScoreFunction())
    SearchRecipe(relax=SampledPath(), hypergrad=ScoreFunction())
    with pytest.raises(OcheError, match="samples=1"):
        ScoreFunction(samples=1)
    with pytest.raises(OcheError, match="limit=0"):
        SampledPath(0.0)
    with pytest.raises(OcheError, match="draws of a sampled loss"):
        ScoreFunction()(None, lambda w, a: None, (), (), SgdStep(0.1))
    assert first_order.moves
