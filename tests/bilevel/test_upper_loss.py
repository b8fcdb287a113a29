"""The loss that the architecture descends: the batch, the cost in it, and its draws."""

import torch

from oche.bilevel.upper_loss import UpperLoss
from oche.methods import proxyless_r
from oche.methods.cost_constraints import flops
from oche.methods.cost_in_loss import Added
from oche.methods.recipe import SearchRecipe
from published_methods import SPACES, search

CHAIN = SPACES["chain"]


def upper(recipe):
    task = search(recipe, CHAIN)
    task.begin(0, 0)
    noise = task._noise(0)
    objective = task._objective("val", 0, noise, 0.5)
    return task, objective, UpperLoss(task, objective, 0.5, 1)


def test_the_loss_is_that_of_the_batch():
    task, objective, loss = upper(SearchRecipe(steps=2, batch=6))
    task.net.eval()
    assert torch.equal(loss(task.weights, task.logits), objective(task.weights, task.logits))


def test_a_cost_in_the_loss_is_that_of_the_step():
    recipe = SearchRecipe(steps=2, batch=6, penalty=flops, cost_form=Added(1e-6), cost_recipe="supernet")
    task, objective, loss = upper(recipe)
    task.net.eval()
    cost = task.cost_constraint.cost(zip(task.logits, task.alive.values(), strict=True), 0.5)[0]
    whole, plain = loss(task.weights, task.logits), objective(task.weights, task.logits)
    torch.testing.assert_close(whole, plain + 1e-6 * cost)
    (slope,) = torch.autograd.grad(whole - plain, task.logits, retain_graph=True)
    (want,) = torch.autograd.grad(1e-6 * cost, task.logits)
    torch.testing.assert_close(slope, want, rtol=1e-3, atol=1e-7)


def test_draws_are_their_own_and_repeat():
    task, objective, loss = upper(proxyless_r(steps=10, batch=6))
    task.net.eval()
    draws = [loss.draw(i, task.weights, task.logits, "accuracy") for i in (0, 1, 2, 0)]
    assert torch.equal(draws[0].loss, draws[3].loss) and all(-1 <= float(d.loss) <= 0 for d in draws)
    chances = [float(d.log_prob(task.logits).detach()) for d in draws]
    assert chances[0] == chances[3] and len(set(chances)) == 3
    mixed = loss.draw(0, task.weights, task.logits, "loss")
    right = float((objective.logits.argmax(1) == objective.labels).double().mean())
    assert float(draws[0].loss) == -torch.tensor(right).float() and float(mixed.loss) > 0
