"""Prices and expected costs against networks that are built and counted, and against loops over the formula, in float64."""

from dataclasses import replace

import pytest
import torch

import oche
from cost_cases import SPACES
from oche.core.architecture import NONE, Dag, Mix, alive_candidates, all_alive
from oche.cost import flops, parameters
from oche.cost.breakdown import space_parts
from oche.cost.expected_cost import COUNTS, cost_model, discrete_cost, expected_cost
from oche.methods.discretize.successive import random_cell
from oche.methods.relaxations import EdgeNormalised, NodeSoftmax, Sigmoid, Softmax

OPS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5")
COUNT = {"parameters": parameters, "flops": lambda net: flops(net, lambda: net(torch.zeros(1, 1, *net_image(net))))}
every = pytest.mark.parametrize("kind", SPACES)


def net_image(net):
    return (net.skeleton if hasattr(net, "skeleton") else net.macro).image


def network(genotype, space):
    """The final network in the geometry of the supernet."""
    shape = dict(channels=space.channels, cells=space.cells, in_channels=1, image=space.image, classes=3)
    if hasattr(space, "stem"):
        shape |= dict(stem=space.stem, widen=space.widen, head=space.head, reductions=space.reductions)
    return oche.build(genotype, **shape)


def drawn(space, seed):
    """Masks of a random cell of every group, and the genotype that they stand for."""
    g = torch.Generator().manual_seed(seed)
    kept = {}
    for name, dag in space.groups.items():
        usable = all_alive(dag, len(space.candidates))
        if NONE in space.candidates and not dag.none:
            usable[:, space.candidates.index(NONE)] = False
        kept[name] = random_cell(usable, dag, g)
    return kept, space.read(kept)


@pytest.mark.slow
@every
@pytest.mark.parametrize("what", COUNTS)
@pytest.mark.parametrize("seed", range(3))
def test_a_mixture_of_one_cell_costs_what_its_network_costs(kind, what, seed):
    space = SPACES[kind]
    found = cost_model(space, COUNTS[what])
    kept, genotype = drawn(space, seed)
    want = COUNT[what](network(genotype, space))
    assert found.of(genotype) == want
    everything = {name: all_alive(dag, len(space.candidates)) for name, dag in space.groups.items()}
    for masks in (kept, everything):  # whether the others are dead, or weigh nothing
        soft = hard = found.fixed
        for name, dag in space.groups.items():
            mix = Mix(kept[name].double(), None, alive_candidates(masks[name]))
            given = (mix, masks[name], dag, space.candidates, found.groups[name])
            soft, hard = soft + expected_cost(*given), hard + discrete_cost(*given)
        assert soft.dtype == torch.float64
        assert soft.item() == pytest.approx(want, rel=1e-13) and hard.item() == want


@every
def test_the_cheapest_and_the_dearest_are_among_random_cells_of_a_space(kind):
    space = SPACES[kind]
    found = cost_model(space, COUNTS["parameters"])
    least, most = found.bounds
    costs = [found.of(drawn(space, seed)[1]) for seed in range(40)]
    assert least <= min(costs) < max(costs) <= most
    ends = [o for o, op in enumerate(space.candidates) if op in ("skip_connect", "max_pool_3x3", "none")]
    cheap = replace(space, candidates=tuple(space.candidates[o] for o in ends))
    assert least <= cost_model(cheap, COUNTS["parameters"]).bounds[1] < most


def naive(mix, alive, dag, candidates, price):
    """The formula of `expected_cost`, entry by entry."""
    total, usable = 0.0, alive.clone()
    if NONE in candidates and not dag.none:
        usable[:, candidates.index(NONE)] = False
    for incoming in dag.incoming:
        strengths, costs = {}, {}
        for e in incoming:
            if usable[e].any():
                edge = 1.0 if mix.edges is None else mix.edges[e].item()
                row = [mix.ops[e, o].item() * edge if usable[e, o] else 0.0 for o in range(len(candidates))]
                strengths[e] = sum(row)
                costs[e] = sum(s * price[e, o].item() for o, s in enumerate(row))
        if len(strengths) <= dag.keep:
            total += sum(costs[e] / strengths[e] for e in strengths)
        else:
            total += dag.keep * sum(costs.values()) / sum(strengths.values())
    return total


RELAX = [Softmax(), NodeSoftmax(), Sigmoid(), EdgeNormalised()]
DAGS = [Dag(nodes=3), Dag(nodes=3, inputs=1, keep=3, none=True)]


def case(relax, dag, seed):
    g = torch.Generator().manual_seed(seed)
    names = ("none", "skip_connect", "sep_conv_3x3")
    a = relax.init(dag, 3, 1.0, g).double()
    alive = torch.rand((len(dag), 3), generator=g) < 0.7
    return a, alive, names, torch.rand((len(dag), 3), generator=g).double()


@pytest.mark.parametrize("relax", RELAX, ids=repr)
@pytest.mark.parametrize("dag", DAGS, ids=["two kept", "all kept"])
@pytest.mark.parametrize("seed", range(3))
def test_expected_costs_by_the_formula(relax, dag, seed):
    a, alive, names, price = case(relax, dag, seed)
    mix = relax(a, alive, dag, None, 0.5)
    got = expected_cost(mix, alive, dag, names, price)
    assert got.item() == pytest.approx(naive(mix, alive, dag, names, price), rel=1e-12)


@pytest.mark.parametrize("relax", RELAX, ids=repr)
@pytest.mark.parametrize("dag", DAGS, ids=["two kept", "all kept"])
def test_gradients_by_finite_differences(relax, dag):
    a, alive, names, price = case(relax, dag, 5)

    def cost(a):
        return expected_cost(relax(a, alive, dag, None, 0.5), alive, dag, names, price)

    assert torch.autograd.gradcheck(cost, a.requires_grad_())
    (gradient,) = torch.autograd.grad(cost(a), a)
    assert (gradient[:, :3][~alive] == 0).all() and gradient.abs().max() > 0


@pytest.mark.parametrize("relax", RELAX, ids=repr)
@pytest.mark.parametrize("dag", DAGS, ids=["two kept", "all kept"])
@pytest.mark.parametrize("seed", range(3))
def test_a_settled_cost_is_that_of_what_top_k_keeps(relax, dag, seed):
    from oche.core.architecture import top_k

    a, alive, names, price = case(relax, dag, seed)
    mix = relax(a, alive, dag, None, 0.5)
    kept = top_k(mix.strength(), alive, dag, names)
    assert discrete_cost(mix, alive, dag, names, price).item() == pytest.approx(price[kept].sum().item(), rel=1e-13)


def test_none_does_not_make_a_cell_cheaper_that_cannot_keep_it():
    dag, names = Dag(nodes=2), ("none", "sep_conv_3x3", "skip_connect")
    alive, price = all_alive(dag, 3), torch.tensor([[0.0, 7.0, 1.0]] * 5, dtype=torch.float64)
    costs = []
    for weight in (0.0, 0.9):
        ops = torch.tensor([[weight, 0.5 * (1 - weight), 0.5 * (1 - weight)]] * 5, dtype=torch.float64)
        costs.append(expected_cost(Mix(ops, None, alive_candidates(alive)), alive, dag, names, price).item())
    assert costs == pytest.approx([16.0, 16.0])  # two nodes, two edges each, (7 + 1) / 2 an edge


@pytest.mark.parametrize("function", [expected_cost, discrete_cost])
def test_costs_are_in_the_precision_of_the_mixture_and_lie_where_it_does(function):
    """The device "meta" computes nothing, but refuses to mix devices as a GPU does."""
    a, alive, names, price = case(Softmax(), DAGS[0], 5)
    for wanted in (a.float(), a, a.to("meta")):
        cost = function(Softmax()(wanted, alive, DAGS[0], None, 0.5), alive, DAGS[0], names, price)
        assert cost.dtype == wanted.dtype and cost.device == wanted.device


def test_prices_are_sent_to_a_device_once_and_scaled_anew():
    found = cost_model(SPACES["nb201"], COUNTS["parameters"])
    own = found.groups["cell"]
    assert own.dtype == torch.float64
    single, meta = (found.on("cell", torch.device(d), t) for d, t in (("cpu", torch.float32), ("meta", own.dtype)))
    assert (
        single.dtype == torch.float32
        and torch.equal(single, own.float())
        and (meta.device.type, meta.dtype) == ("meta", own.dtype)
    )
    assert found.on("cell", torch.device("cpu"), torch.float32) is single
    twice = found.scaled(2.0)
    assert twice.fixed == 2 * found.fixed and torch.equal(twice.groups["cell"], 2 * own)
    assert torch.equal(twice.on("cell", torch.device("cpu"), torch.float32), 2 * single)
    assert (twice.dags, twice.candidates) == (found.dags, found.candidates)


def test_what_is_alike_is_measured_once_under_a_name_of_its_own():
    asked = []
    space = SPACES["seed"]
    found = cost_model(space, lambda key, module, x: asked.append((key, x.shape)) or len(asked))
    assert len({key for key, _ in asked}) == len(asked) and all(len(shape) > 1 and shape[0] == 1 for _, shape in asked)
    places = {place.key(op) for rows in space_parts(space).places.values() for r in rows for place in r for op in OPS}
    assert {key for key, _ in asked} == places | {part.key for part in space_parts(space).fixed}
    assert all(group.dtype == torch.float64 for group in found.groups.values())
