"""The score-function estimate against the exact gradient, by summing over all choices."""

import itertools
from functools import partial

import pytest
import torch

from oche.core.architecture import PathDag
from oche.core.errors import OcheError
from oche.methods.hypergradients import SgdStep
from oche.methods.method import Method
from oche.methods.relaxations import Softmax
from oche.methods.score_function import Draw, ScoreFunction, score_gradient
from oche.methods.stochastic_relaxations import GumbelHard
from oche.spaces import recurrent

DAG = PathDag(nodes=2)
A = torch.tensor([[0.3, -0.4, 1.0], [0.0, 0.8, -1.2]], dtype=torch.float64)
ALIVE = torch.tensor([[True, True, True], [False, True, True]])
LOSS = torch.tensor([[2.0, -1.0, 0.5], [9.0, 3.0, 1.0]], dtype=torch.float64)  # of each choice; the sum is squared


def loss_of(choice):
    return (LOSS[0, choice[0]] + LOSS[1, choice[1]]) ** 2


def log_prob(choice, a):
    p = a[0].masked_fill(~ALIVE, -torch.inf).log_softmax(1)
    return p[0, choice[0]] + p[1, choice[1]]


CHOICES = [*itertools.product(range(3), (1, 2))]


def exact():
    a = A.clone().requires_grad_()
    total = sum(log_prob(c, (a,)).exp() * loss_of(c) for c in CHOICES)
    return torch.autograd.grad(total, a)[0]


@pytest.mark.parametrize("baseline", ["others", "none"])
def test_the_mean_of_the_estimate_is_the_gradient(baseline):
    """Over all pairs of draws, weighed by their probabilities."""
    mean = torch.zeros_like(A)
    for pair in itertools.product(CHOICES, repeat=2):
        chance = sum(log_prob(c, (A,)) for c in pair).exp()
        losses = torch.stack([loss_of(c) for c in pair])
        mean += chance * score_gradient(losses, [partial(log_prob, c) for c in pair], (A,), baseline)[0]
    torch.testing.assert_close(mean, exact(), rtol=1e-12, atol=1e-12)


def test_a_baseline_lowers_the_variance():
    found = {}
    for baseline in ("others", "none"):
        values = []
        for pair in itertools.product(CHOICES, repeat=2):
            losses = torch.stack([100 + loss_of(c) for c in pair])
            g = score_gradient(losses, [partial(log_prob, c) for c in pair], (A,), baseline)[0]
            values.append(sum(log_prob(c, (A,)) for c in pair).exp() * g.square().sum())
        found[baseline] = float(torch.stack(values).sum())
    assert found["others"] < found["none"] / 10


def test_equal_losses_move_nothing():
    losses = torch.full((4,), 3.0, dtype=torch.float64)
    (g,) = score_gradient(losses, [partial(log_prob, c) for c in CHOICES[:4]], (A,))
    assert not g.any()


def test_the_hypergradient_averages_over_its_draws():
    class Outer:
        def draw(self, i, w, a, of):
            assert of == "loss"
            return Draw(loss_of(CHOICES[i]), partial(log_prob, CHOICES[i]))

    found = ScoreFunction(samples=3)(None, Outer(), (), (A,), SgdStep(0.1))
    losses = torch.stack([loss_of(c) for c in CHOICES[:3]])
    torch.testing.assert_close(found, score_gradient(losses, [partial(log_prob, c) for c in CHOICES[:3]], (A,)))


def test_the_probability_of_a_draw():
    relax, generator = GumbelHard(), torch.Generator().manual_seed(0)
    for _ in range(5):
        noise = relax.noise(DAG, 3, generator).double()
        chosen = [row[0] for row in relax(A, ALIVE, DAG, noise, 0.5).active]
        assert float(relax.log_prob(A, ALIVE, DAG, noise)) == pytest.approx(float(log_prob(chosen, (A,))))


@pytest.mark.parametrize(
    "refused, words",
    [
        (lambda: ScoreFunction(samples=1), "use samples >= 2"),
        (lambda: Method(hypergrad=ScoreFunction(), relax=Softmax()), "Softmax draws none; use relax=GumbelHard"),
        (
            lambda: Method(hypergrad=ScoreFunction(of="accuracy"), relax=GumbelHard()).check(recurrent()),
            "reward by accuracy",
        ),
    ],
)
def test_what_is_refused(refused, words):
    with pytest.raises(OcheError, match=words):
        refused()
