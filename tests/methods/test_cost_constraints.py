"""Penalties on cost: what they do to logits, what they are added to, and every method on every space under one."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

import published_methods
from oche.core.architecture import all_alive
from oche.core.config.command_line import read_options
from oche.core.config.serialize import from_dict, to_dict
from oche.core.errors import OcheError
from oche.core.optimizers import largest_logit_step
from oche.cost.expected_cost import COUNTS, cost_model
from oche.cost.latency_table import LatencyTable
from oche.devices.engine import Engine
from oche.methods import cost_constraints as constraints
from oche.methods.catalog import METHODS
from oche.methods.cost_constraints import CostConstraint, CostPenalty, CostTarget, flops, latency, parameters
from oche.methods.recipe import SearchRecipe
from oche.methods.regularizers import BetaDecay, DirichletKL, Sum, ZeroOne, summands
from oche.methods.relaxations import Softmax
from oche.runs.config import SearchConfig
from oche.spaces import recurrent
from tiny_images import Kept

SPACE = published_methods.SPACES["nb201"]
PRICES = cost_model(SPACE, COUNTS["parameters"])
ALIVE = all_alive(SPACE.dag, len(SPACE.candidates))


def priced(target, strength=0.7):
    return CostConstraint("parameters", PRICES, target, strength, Softmax())


def logits(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(len(SPACE.dag), len(SPACE.candidates), generator=g, dtype=torch.float64)


def excess(what, a):
    return what.excess([(a, ALIVE)], 0.5)


def stepped(what, a, size=0.1):
    """By how much a step moves logits."""
    moved = a.detach().clone().requires_grad_()
    what.step([moved], [ALIVE], 0.5, size)
    return moved.detach() - a.detach()


def expected(a):
    """Every edge is kept: the sum of weight times price, and what is there in any case."""
    return PRICES.fixed + (a.softmax(1) * PRICES.groups["cell"]).sum()


def settled(a):
    return PRICES.fixed + PRICES.groups["cell"].gather(1, a.argmax(1, keepdim=True)).sum().item()


# --- what it costs, and what it does ------------------------------------------------------------------------------------


def slopes(a, step=1e-6):
    """Derivatives of the logarithm of the expected cost by every logit, by central differences."""
    found = torch.zeros_like(a)
    for e in range(a.shape[0]):
        for o in range(a.shape[1]):
            there, back = a.clone(), a.clone()
            there[e, o] += step
            back[e, o] -= step
            found[e, o] = (expected(there).log() - expected(back).log()) / (2 * step)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_beyond_the_target_logits_go_down_the_slope_of_the_expected_cost(seed):
    a = logits(seed)
    what = priced(settled(a) / 1.5)
    assert excess(what, a) == pytest.approx(0.7 * math.log(1.5), rel=1e-12)
    want = slopes(a)
    torch.testing.assert_close(stepped(what, a), -0.7 * 0.1 * want / want.abs().max(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("over_by", [1.0, 0.5])
def test_up_to_the_target_nothing_moves(over_by):
    a = logits()
    what = priced(settled(a) / over_by)
    assert excess(what, a) == 0 and (stepped(what, a) == 0).all()


def test_without_a_target_it_never_ends():
    a = logits()
    assert excess(priced(None), a) == pytest.approx(0.7 * math.log(settled(a)), rel=1e-12)
    assert stepped(priced(None), a).abs().max().item() == pytest.approx(0.07, rel=1e-12)
    less = replace(priced(None), costs=PRICES.scaled(1e-6))  # of its unit than one
    assert excess(less, a) == pytest.approx(0.7 * math.log(1e-6 * settled(a)), rel=1e-12) and excess(less, a) < 0


def test_the_dead_rest():
    a, alive = logits(), ALIVE.clone()
    alive[1, 2] = alive[3, :4] = False
    moved = a.clone().requires_grad_()
    priced(None).step([moved], [alive], 0.5, 0.1)
    assert (moved.detach()[~alive] == a[~alive]).all() and not torch.equal(moved.detach(), a)


@dataclass(frozen=True)
class Turning(Softmax):
    """One of a user's own, that ends where it weighs the smallest logits most."""

    def __call__(self, a, alive, dag, noise, progress):
        return super().__call__((1 - 2 * progress) * a, alive, dag, noise, progress)


def test_costs_are_of_the_mixture_at_its_progress():
    a = logits()
    what, plain = replace(priced(None), relax=Turning()), priced(None)
    for progress, same in ((0.0, a), (1.0, -a)):
        assert what.excess([(a, ALIVE)], progress) == pytest.approx(excess(plain, same), rel=1e-12)
        moved = a.clone().requires_grad_()
        what.step([moved], [ALIVE], progress, 0.1)
        torch.testing.assert_close(
            moved.detach() - a, (1 - 2 * progress) * stepped(plain, same), rtol=1e-12, atol=1e-15
        )


@pytest.mark.slow
@pytest.mark.parametrize("target", [None, PRICES.bounds[0]])
def test_logits_may_lie_elsewhere_than_masks_and_prices(target):
    """The device "meta" computes nothing, but refuses to mix devices as a GPU does."""
    a = logits().to("meta").requires_grad_()
    priced(target).step([a], [ALIVE], 0.5, 0.1)
    assert all(cost.device == a.device for cost in priced(target).cost([(a, ALIVE)], 0.5))


def test_prices_are_sent_once_to_where_the_logits_lie_in_their_precision():
    what, a = replace(priced(None), costs=PRICES.scaled(1.0)), logits().float().to("meta").requires_grad_()
    for _ in range(2):
        what.step([a], [ALIVE], 0.5, 0.1)
    assert [*what.costs._on_device] == [("cell", a.device, torch.float32)]


def test_where_the_cost_does_not_change_nothing_moves():
    alive = torch.zeros_like(ALIVE)
    alive[:, 1] = True
    a = logits().requires_grad_()
    priced(None).step([a], [alive], 0.5, 0.1)
    assert torch.equal(a.detach(), logits())


def test_it_says_what_it_prices_and_between_what_bounds():
    least, most = PRICES.bounds
    said = "parameters, from 4.7 k to 23.2 k in this space"
    assert priced(None).summarize() == f"{said}: the less the better, strength 0.7"
    assert priced(6000.0, strength=2.0).summarize() == f"{said}: target 6 k, strength 2"
    counted = replace(priced(6000.0), kind="flops")
    assert counted.summarize() == "flops, from 4.7 kFLOPs to 23.2 kFLOPs in this space: target 6 kFLOPs, strength 0.7"
    about = {"kind": "parameters", "strength": 0.7, "least": least, "most": most}
    assert priced(None).describe() == {**about, "target": None}
    assert priced(6000.0).describe() == {**about, "target": 6000.0}


def test_targets_as_far_as_networks_of_the_space_reach():
    least, most = PRICES.bounds
    for target in (None, least, most):
        priced(target).check_reachable()
    for target, where, said in ((least - 1, "below", "4.7 k"), (most + 50, "above", "23.2 k")):
        with pytest.raises(OcheError) as caught:
            priced(target).check_reachable()
        assert str(caught.value) == (
            f"target {said} is {where} every network of this size (parameters from 4.7 k to 23.2 k); "
            "choose one between, or another --search.cost_recipe"
        )
    with pytest.raises(OcheError, match=r"target 1 kFLOPs is below .* .flops from 4.7 kFLOPs to 23.2 kFLOPs.;"):
        replace(priced(1000.0), kind="flops").check_reachable()


def test_latencies_come_from_the_table_that_is_named_or_are_measured_here(tmp_path, monkeypatch):
    asked, path = [], tmp_path / "latencies.json"
    monkeypatch.setattr(constraints, "latency_model", lambda *given: asked.append(given) or PRICES)
    written = LatencyTable({"hardware": "elsewhere"}, 3)
    written.write(path)
    engine = Engine("cpu")
    assert latency.make_cost_model(SPACE, path, engine) is PRICES
    assert latency.make_cost_model(SPACE, None, engine) is PRICES
    assert latency.constraint(SPACE, Softmax(), CostTarget(None), engine).costs is PRICES
    assert [space for space, _ in asked] == [SPACE] * 3 and asked[2][1].engine is engine
    assert asked[0][1] == written and asked[1][1].engine is engine


def test_it_is_no_part_of_the_loss():
    assert parameters(logits(), ALIVE, Softmax()(logits(), ALIVE, SPACE.dag, None, 0.5), 0.5) == 0


@pytest.mark.parametrize("name", ["darts", "beta-darts", "gaea", "gaea-pc-darts"])
def test_a_search_takes_steps_as_long_as_its_optimiser(name):
    """At strength 3 the first step is three times as long as the optimiser's own, whatever that is."""
    own = published_methods.tiny(name)
    tasks = [published_methods.search(m, SPACE) for m in (own, with_penalty(own, strength=3.0))]
    for task in tasks:
        task.begin(0, 0)
        task.step(0, 0.9)
    plain, paid = (torch.cat([a.detach().flatten() for a in task.logits]) for task in tasks)
    size = float(largest_logit_step(tasks[0].a_opt))
    assert 0 < size <= 0.4
    assert (paid - plain).abs().max().item() == pytest.approx(3 * size, rel=1e-4)


# --- every method on every space ----------------------------------------------------------------------------------------


def with_penalty(method, kind=parameters, **fields):
    return replace(method, penalty=kind.onto(method.method.penalty), cost_recipe="supernet", **fields)


@pytest.mark.slow
@pytest.mark.parametrize("kind", published_methods.SPACES)
@pytest.mark.parametrize("name", METHODS)
def test_steps_of_every_method_with_a_penalty(name, kind):
    space = published_methods.SPACES[kind]
    least, most = cost_model(space, COUNTS["parameters"]).bounds
    own = published_methods.tiny(name)
    if (name, kind) in published_methods.REFUSED:
        pytest.skip("refused, see tests/methods/test_published.py")
    task = published_methods.search(with_penalty(own, target=str(least + 1e-3 * (most - least)), strength=1.0), space)
    regularisers = [p for p in summands(own.method.penalty) if not isinstance(p, CostPenalty)]
    assert [*summands(task.method.penalty)] == [*regularisers, parameters] and task.cost_constraint.kind == "parameters"
    before = [a.detach().clone() for a in task.logits]
    task.begin(0, 0)
    task.step(task.method.arch_every - 1, 0.9)
    record = task.report(0.9)
    assert least <= record["cost"] <= most
    if own.method.hypergrad.moves:
        assert least <= record["cost_found"] <= most
        assert any(not torch.equal(a, b) for a, b in zip(before, task.logits, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", published_methods.SPACES)
def test_a_strong_penalty_leads_to_the_cheapest_cells(kind):
    space = published_methods.SPACES[kind]
    method = with_penalty(METHODS["darts"].make(steps=30, batch=6), strength=2.0)
    task = published_methods.search(
        replace(method, arch_optimizer=replace(method.method.arch_optimizer, lr=0.3)), space
    )
    found = task.cost_constraint.costs
    assert found.of(published_methods.run(task, Kept())) == found.bounds[0]


@pytest.mark.parametrize("name", ["random-ws", "one-shot", "evolution-ws"])
def test_selections_of_whole_architectures_weigh_what_they_cost(name):
    task = published_methods.search(with_penalty(published_methods.tiny(name), strength=1e4), SPACE)
    masks = [task.random(torch.Generator().manual_seed(i)) for i in range(12)]
    costs = [PRICES.of(SPACE.read(m)) for m in masks]
    scores = [task.accuracy(m, 6) for m in masks]
    assert scores.index(max(scores)) == costs.index(min(costs))
    plain = published_methods.search(published_methods.tiny(name), SPACE)
    assert all(0 <= plain.accuracy(m, 6) <= 1 for m in masks)


# --- settings -----------------------------------------------------------------------------------------------------------


def said(name, words):
    method = METHODS[name].make()
    return from_dict(method, read_options(method, words.split(), "oche search"), None)


def test_on_a_command_line_it_comes_on_top():
    assert said("beta-darts", "--penalty latency --target 5ms").method.penalty == BetaDecay() + latency
    assert said("fair-darts", "--penalty flops --target 1MFLOPs").method.penalty == ZeroOne() + flops
    assert said("darts", "--penalty parameters").method.penalty == parameters
    three = BetaDecay() + ZeroOne() + DirichletKL()
    assert latency.onto(three) == latency.onto(three + flops) == three + latency
    assert latency.onto(flops) == latency.onto(None) == latency.onto(Softmax()) == latency
    assert said("beta-darts", "--penalty ZeroOne --relax Sigmoid").method.penalty == ZeroOne()  # others take the place
    again = from_dict(
        replace(METHODS["darts"].make(), penalty=BetaDecay() + flops), {"penalty": {"type": "latency"}}, None
    )
    assert again.method.penalty == BetaDecay() + latency


def test_configurations_hold_it():
    method = SearchRecipe(penalty=BetaDecay() + latency, target="5ms", strength=0.3, cost_recipe="small")
    alone = SearchRecipe(penalty=flops, target="1GFLOPs")
    for default in (SearchRecipe(), METHODS["beta-darts"].make()):  # a file says what there is
        for search in (method, alone):
            tree = to_dict(SearchConfig(search=search))
            assert from_dict(SearchConfig(search=default), tree).search == search


REFUSED = {
    "unit": (
        dict(penalty=latency, target="3M"),
        "'3M', which is a number of weights: the penalty latency takes a time",
    ),
    "alone": (dict(target="5ms"), "target 5ms belongs to no penalty; add penalty latency, parameters or flops"),
    "other": (dict(penalty=BetaDecay(), target="5ms"), "belongs to no penalty"),
    "two": (dict(penalty=Sum((latency, flops)), target="5ms"), "latency and flops each need one"),
    "strength": (dict(penalty=flops, strength=-1.0), "strength=-1.0 must be a finite number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_belong_together_is_refused(case):
    fields, words = REFUSED[case]
    with pytest.raises(OcheError, match=words):
        SearchRecipe(**fields)


def test_what_a_space_cannot_be_is_refused():
    with pytest.raises(OcheError, match="prices networks for images, and this space is one for text; leave it out"):
        SearchRecipe(penalty=flops).check(recurrent())
    for target, where in (("1k", "below"), ("1G", "above")):
        method = SearchRecipe(penalty=parameters, target=target, cost_recipe="supernet")
        with pytest.raises(OcheError, match=f"is {where} every network of this size .parameters from 4.7 k to 23.2 k"):
            method.check_target(SPACE)
    with pytest.raises(
        OcheError, match=r"there is no table of latencies at nowhere\.json; measure one: oche cost --table"
    ):
        SearchRecipe(penalty=latency, target="5ms", latencies=Path("nowhere.json")).check_target(SPACE)
    SearchRecipe(penalty=latency, target="5ms").check_target(SPACE)  # nothing is measured yet
