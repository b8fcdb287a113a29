"""FBNet and ProxylessNAS as compositions: the published values, and what only they do in a search."""

import math

import pytest
import torch

from oche.core.errors import OcheError
from oche.core.optimizers import Adam
from oche.methods import fbnet, proxyless, proxyless_r
from oche.methods.cost_constraints import CostTarget, flops
from oche.methods.cost_in_loss import Added, RewardRatio
from oche.methods.hypergradients import joint
from oche.methods.method import Method
from oche.methods.stochastic_relaxations import TwoPaths
from oche.training.loop import fit_loop
from published_methods import SPACES, search, shrunk
from tiny_images import Kept

CHAIN = SPACES["chain"]


def test_the_published_values():
    made = fbnet()
    assert made.method.relax.tau == (5.0, pytest.approx(0.0871, abs=5e-5))
    assert (made.epochs, made.batch, made.split, made.method.arch_every) == (90, 192, 0.8, 5)
    assert made.method.warmup * made.epochs == pytest.approx(10)
    made = proxyless()
    assert made.method.arch_optimizer == Adam(lr=1e-3, betas=(0.0, 0.999), decay=0.0)
    assert (made.method.warmup * made.epochs, made.method.arch_every) == (40, 5)
    assert proxyless_r().method.hypergrad.samples == 10


def test_the_architecture_takes_one_step_in_five():
    """And only the two drawn logits of a layer, and no other probability, move in it."""
    task = search(shrunk(proxyless(steps=10, batch=4, warmup=0.0, arch_every=5)), CHAIN)
    moved, relax = [], task.method.relax
    for step in range(10):
        before = task.logits[0].detach().clone()
        if step % task.per_epoch() == 0:
            task.begin(step // task.per_epoch(), 0)
        task.step(step, step / 10)
        if not torch.equal(before, task.logits[0]):
            moved.append(step)
            pairs = relax(before, task.alive["chain"], task.groups["chain"], task._noise(step)["chain"], 0.0).active
            alive = task.alive["chain"]
            old, new = (
                a.detach().double().masked_fill(~alive, -torch.inf).softmax(1) for a in (before, task.logits[0])
            )
            for e, pair in enumerate(pairs):
                others = [o for o in range(4) if o not in pair]
                torch.testing.assert_close(new[e, others], old[e, others], rtol=1e-5, atol=1e-7)
    assert moved == [4, 9]


def test_weights_of_paths_that_are_not_active_rest():
    task = search(shrunk(proxyless(steps=8, batch=4)), CHAIN)
    before = {name: w.detach().clone() for name, w in task.net.named_parameters()}
    task.begin(0, 0)
    task.step(0, 0.0)
    mix = task.weight_mixes(task.logits, task._noise(0), 0.0)["chain"]
    for e, row in enumerate(mix.active):
        for o in range(4):
            names = [name for name in before if name.startswith(f"cells.{e}.edges.0.candidates.{o}.")]
            still = all(torch.equal(before[name], dict(task.net.named_parameters())[name]) for name in names)
            assert still is (o not in row or not names)


@pytest.mark.parametrize("make", [fbnet, proxyless])
def test_with_the_cost_alone_as_loss_layers_are_left_out(make):
    """Otherwise they end at the cheapest block."""
    recipe = shrunk(make(steps=120, batch=4, warmup=0.0, arch_every=1, arch_optimizer=Adam(0.3, (0.0, 0.999), 0.0)))
    task = search(recipe, CHAIN)
    alive, constraint, generator = task.alive, task.cost_constraint, torch.Generator().manual_seed(0)
    for step in range(120):
        noise = {"chain": recipe.method.relax.noise(CHAIN.dag, 4, generator)}
        before = [a.detach().clone() for a in task.logits]
        task.a_opt.zero_grad()
        one = torch.ones(())
        constraint.in_loss(one, task.mixes(task.logits, noise, step / 120), alive).backward()
        task.a_opt.step()
        if recipe.method.relax.settles:
            task._settle(before, noise)
    names = [op for op, _, _ in task.genotype().chain.edges][1:-1]
    assert names == ["none", "mb_k3_e1_s2_c6", "none"]


def test_a_cost_can_act_in_a_step_of_its_own():
    recipe = shrunk(proxyless(steps=4, batch=4, arch_every=1, warmup=0.0, cost_form=None))
    task = search(recipe, CHAIN)
    assert task.cost_constraint.form is None
    session = Kept()
    fit_loop(task, recipe.length, session)
    assert session.history[-1]["cost"] > 0


def test_reinforce_is_rewarded_by_accuracy_and_cost():
    recipe = shrunk(
        proxyless_r(
            steps=4, batch=6, arch_every=1, warmup=0.0, penalty=flops, cost_recipe="supernet", target="30kFLOPs"
        )
    )
    task = search(recipe, CHAIN)
    before = task.logits[0].detach().clone()
    task.begin(0, 0)
    task.step(0, 0.0)
    assert not torch.equal(before, task.logits[0]) and isinstance(task.cost_constraint.form, RewardRatio)
    assert math.isfinite(float(task.logits[0].detach().sum()))


@pytest.mark.parametrize(
    "refused, words",
    [
        (lambda: Method(relax=TwoPaths(), hypergrad=joint), "TwoPaths evaluates other candidates for the architecture"),
        (lambda: Method(cost_form=Added(), hypergrad=joint), "a one-level search has one loss"),
        (lambda: Method(arch_every=0), "use 1 or more"),
        (lambda: proxyless(steps=3), "use steps >= "),
        (lambda: flops.constraint(CHAIN, TwoPaths(), CostTarget(1.0)), "below every network of this size"),
    ],
)
def test_what_is_refused(refused, words):
    with pytest.raises(OcheError, match=words):
        refused()
