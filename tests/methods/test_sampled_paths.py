"""Sampled paths and their score function, against the enumeration of all draws of small cells."""

from itertools import permutations, product

import pytest
import torch

from oche.core.architecture import Dag, all_alive
from oche.core.errors import OcheError
from oche.methods.hypergradients import SgdStep
from oche.methods.recipe import SearchRecipe
from oche.methods.sampled_paths import SampledPath
from oche.methods.score_function import Draw, ScoreFunction

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


class Drawn:
    """An upper loss whose draws are known."""

    def __init__(self, *draws):
        self.draws = draws

    def draw(self, i, w, a, of):
        loss, log_p = self.draws[i]
        return Draw(torch.tensor(loss, dtype=torch.float64), log_p)


def mean_estimate(a, found, losses, entropy):
    """The mean of the estimates over all pairs of draws."""
    relax, alive = SampledPath(1.5), all_alive(TWO, 3)
    log_p = [lambda t, n=noise: relax.log_prob(t[0], alive, TWO, n) for noise, _ in found]
    mean, estimate = torch.zeros_like(a), ScoreFunction(samples=2, entropy=entropy)
    for (i, (_, p)), (j, (_, q)) in product(enumerate(found), repeat=2):
        pair = Drawn((losses[i], log_p[i]), (losses[j], log_p[j]))
        mean += p * q * estimate(None, pair, (), (a,), SgdStep(0.1))[0]
    return mean, log_p


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_the_mean_of_the_estimates_is_the_gradient_of_the_expected_loss(shift):
    a = logits(TWO)
    found = [*draws_with_probabilities(TWO, a, all_alive(TWO, 3), SampledPath(1.5)).values()]
    losses = (torch.rand(len(found), generator=torch.Generator().manual_seed(1), dtype=torch.float64) + shift).tolist()
    mean, log_p = mean_estimate(a, found, losses, 0.0)
    leaf = a.clone().requires_grad_()
    expected = sum(f((leaf,)).exp() * loss for f, loss in zip(log_p, losses, strict=True))
    torch.testing.assert_close(mean, torch.autograd.grad(expected, leaf)[0], atol=1e-10, rtol=0)


def test_the_entropy_in_the_loss_is_the_gradient_of_the_entropy():
    a = logits(TWO)
    found = [*draws_with_probabilities(TWO, a, all_alive(TWO, 3), SampledPath(1.5)).values()]
    mean, _ = mean_estimate(a, found, [0.0] * len(found), 1.0)
    leaf = a.clone().requires_grad_()
    entropy = torch.special.entr((1.5 * leaf.tanh()).softmax(1)).sum()
    torch.testing.assert_close(mean, torch.autograd.grad(-entropy, leaf)[0], atol=1e-10, rtol=0)


def test_parts_that_do_not_go_together_are_refused():
    with pytest.raises(OcheError, match="has no gradient that FirstOrder"):
        SearchRecipe(relax=SampledPath())
    SearchRecipe(relax=SampledPath(), hypergrad=ScoreFunction())
    with pytest.raises(OcheError, match="limit=0"):
        SampledPath(0.0)
    with pytest.raises(OcheError, match="entropy=-1"):
        ScoreFunction(entropy=-1)
